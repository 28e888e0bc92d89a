# SPDX-License-Identifier: MIT
"""What the benchmarks in Python share: lines of `name value unit ratio against`, processors, and the peers that are here."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"
ROUNDS = 5


def line(name, value, unit, ratio, against, met=None):
    """met: whether a limit is kept that `against` names; None: there is none."""
    if met is not None:
        against += ": met" if met else ": missed"
    print(f"{name:<30} {value:>10.2f} {unit:<12} {ratio:>7.2f} {against}", flush=True)


def program(name):
    return os.path.join(os.environ.get("builddir", "."), name)


def processor(first):
    """For preexec_fn: what is measured has the first processor to itself, everything else the others."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) > 1:
        os.sched_setaffinity(0, mine[:1] if first else mine[1:])


def measured(command, **more):
    """The figures that a command prints in lines whose first two words are name and value."""
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout
    return {words[0]: float(words[1]) for words in map(str.split, output.splitlines())}


def medians(runs):
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


class Peers:
    """Commands that run a peer: name -> arguments. One that is not installed is named on stderr, with its package."""

    def __init__(self, want_boost=True):
        self.directory = tempfile.TemporaryDirectory(prefix="weft-bench-peers-")
        self.commands = {}
        self.env = {**os.environ, "GOMAXPROCS": "1"}  # a loop is one thread's; so are its peers'
        if want_boost:
            self.add_boost()
        self.add_go()
        self.commands["asyncio"] = [PYTHON, "-E", os.path.join(HERE, "peer.py"), "asyncio"]
        if subprocess.run([PYTHON, "-E", "-c", "import uvloop"], stderr=subprocess.DEVNULL).returncode == 0:
            self.commands["uvloop"] = [PYTHON, "-E", os.path.join(HERE, "peer.py"), "uvloop"]
        else:
            self.missing("uvloop", "python3-uvloop")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.directory.cleanup()

    @staticmethod
    def missing(peer, package):
        print(f"bench: {peer} is left out: the Debian package {package} is not installed", file=sys.stderr, flush=True)

    def build(self, peer, package, command, env=None):
        """Where the peer itself is missing the build fails."""
        path = os.path.join(self.directory.name, peer)
        built = shutil.which(command[0]) and subprocess.run([word.replace("OUTPUT", path) for word in command],
                                                            env=env, stderr=subprocess.DEVNULL).returncode == 0
        if built:
            self.commands[peer] = [path]
        else:
            self.missing(peer, package)

    def add_boost(self):
        self.build("boost", "libboost-context-dev", ["cc", "-O2", "-std=gnu11", os.path.join(HERE, "peer-boost.c"),
                                                     "-lboost_context", "-o", "OUTPUT"])

    def add_go(self):
        env = {**os.environ, "GO111MODULE": "off", "GOPROXY": "off", "CGO_ENABLED": "0"}
        env.setdefault("GOCACHE", os.path.join(self.directory.name, "go-cache"))
        self.build("go", "golang-go", ["go", "build", "-o", "OUTPUT", os.path.join(HERE, "peer.go")], env)
