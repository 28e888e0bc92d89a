#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make bench: runs the benchmarks that it is given, shows what they print, and says at the end which limits were kept."""

import subprocess
import sys


def main(commands):
    met, missed, failed = [], [], []
    for command in commands:
        argv = ["/usr/bin/python3", command] if command.endswith(".py") else [command]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            for text in process.stdout:
                print(text, end="", flush=True)
                name = text.split()[0] if text.split() else ""
                if text.endswith(": met\n"):
                    met.append(name)
                elif text.endswith(": missed\n"):
                    missed.append(name)
        if process.returncode != 0:
            print(f"bench: {command} has failed, with {process.returncode}", file=sys.stderr)
            failed.append(command)
    print(f"musts: {len(met)} met, {len(missed)} missed{': ' if missed else ''}{', '.join(missed)}")
    return 1 if failed else 0


sys.exit(main(sys.argv[1:]))
