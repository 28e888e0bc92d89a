#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A full tmpfs under the black box: -ENOMEM from spawn and set, or a counted drop; never SIGBUS."""

import os
import re

from harness import *


def in_tmpfs(size, command, env=None, timeout=None):
    """Runs command with WEFT_BLACKBOX_DIR on a tmpfs of that size, in a mount namespace of its own."""
    if os.geteuid() != 0:
        raise Skip("only root can mount a tmpfs")
    directory = tempfile.mkdtemp(prefix="weft-", dir="/tmp")
    try:
        script = f'mount -t tmpfs -o size={size} weft-test "$0" && export WEFT_BLACKBOX_DIR="$0" && exec "$@"'
        probe = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, directory, "true"],
                               capture_output=True, text=True)
        if probe.returncode != 0:
            raise Skip(f"no mount namespace here: {probe.stderr.strip()}")
        return subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, directory, *command],
                              capture_output=True, text=True, timeout=timeout or 3 * DEADLINE, env={**os.environ, **(env or {})})
    finally:
        os.rmdir(directory)


@test("on a tmpfs of 4 MiB, set and spawn say -ENOMEM, and spawn works again when there is room")
def four_mebibytes():
    result = in_tmpfs("4m", [program("tests/system/fill")])
    said = result.stdout + result.stderr
    check_equal(result.returncode, 0, f"exit status of fill, which says:\n{said}")
    for what in ("set", "spawn"):
        found = re.search(rf"^{what} (\w+) after (\d+)$", result.stdout, re.M)
        check(found, f"no line about {what}:\n{said}")
        check_equal(found[1], "ENOMEM", f"what {what} fails with")
        check(int(found[2]) > 0, f"{what} fails at once:\n{said}")
    check("again spawn OK" in result.stdout, f"spawn does not work again:\n{said}")
    check("run OK" in result.stdout, f"the loop did not end in order:\n{said}")


@test("on a tmpfs that is too small for any black box, the program says so and does not die of a signal")
def no_room():
    result = in_tmpfs("64k", [program("tests/system/fill")])
    check(result.returncode >= 0, f"fill died of signal {-result.returncode}")
    check("run ENOMEM" in result.stdout or "run ENOSPC" in result.stdout or "run OK" in result.stdout,
          f"fill says:\n{result.stdout}{result.stderr}")


@test("a workload whose ring is full goes on, and drops are counted")
def full_ring():
    """Nobody drains: burst finishes more tasks than the small ring holds."""
    directory = tempfile.mkdtemp(prefix="weft-", dir="/tmp")
    try:
        count = os.path.join(directory, "count")
        # After the end, bb_loop.ring_dropped of the box. (--foreground: else the signal goes to burst, and then to its group, and is two.)
        script = ('timeout --foreground --preserve-status -s TERM 2 "$0" 100000 "$1" || exit; '
                  f'od -An -t u8 -j {box_offset("ring_dropped")} -N 8 "$WEFT_BLACKBOX_DIR"/*.blackbox')
        result = in_tmpfs("4m", ["sh", "-c", script, program("tests/system/burst"), count])
        check_equal(result.returncode, 0, f"exit status of burst, which says {result.stderr!r}")
        with open(count, "rb") as file:
            finished = int.from_bytes(file.read(8), "little")
        dropped = int(result.stdout)
        check(finished > 100000 / SCALE, f"only {finished} tasks have finished")
        check(0 < dropped <= finished + 10, f"{finished} tasks have finished, {dropped} records are said to be dropped")
    finally:
        shutil.rmtree(directory)


run()
