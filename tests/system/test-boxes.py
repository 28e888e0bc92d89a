#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Black boxes that are garbage: weftd neither crashes nor believes them."""

import os
import random
import resource
import signal
import struct
import subprocess

from harness import *


def boxes(weftd):
    return [f for f in os.listdir(weftd.runtime) if f.endswith(".blackbox")]


def still_good(weftd):
    check_equal(weftd.process.poll(), None, "weftd's exit status")
    weftd.running("naps")
    check_equal(sorted({t["workload"] for t in weftd.json("tasks", "list")}), ["naps"], "workloads with tasks")
    weftd.check_history()


def bystander(directory):
    """A file that is nobody's black box, beside the directory, which a link there leads to."""
    return os.path.join(os.path.dirname(directory), "bystander")


def garbage_files(directory):
    """Files that are named like black boxes and are none. The names in the order of what is wrong with them."""
    chance = random.Random(1)
    header = struct.Struct("<8sIIQ").pack(b"weftbbox", 1, 4096, 1 << 30)
    for name, content in (("empty", b""),
                          ("random", chance.randbytes(1 << 20)),
                          ("short", b"weftbbox"),
                          ("header", header + chance.randbytes(1 << 20)),
                          ("version", struct.pack("<8sI", b"weftbbox", 77) + bytes(1 << 16)),
                          ("zeros", bytes(1 << 20))):
        with open(os.path.join(directory, f"{name}.1.1.blackbox"), "wb") as file:
            file.write(content)
    with open(bystander(directory), "w"):
        pass
    os.symlink(bystander(directory), os.path.join(directory, "link.1.1.blackbox"))
    os.symlink("/nonexistent", os.path.join(directory, "dangling.1.1.blackbox"))
    os.mkdir(os.path.join(directory, "directory.1.1.blackbox"))
    os.mkfifo(os.path.join(directory, "pipe.1.1.blackbox"))
    return ("empty", "random", "short", "header", "version", "zeros", "link", "dangling", "directory", "pipe")


@test("files that are no black boxes, there before the start: weftd says so of each and runs")
def garbage_before():
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as directory:
        weftd = Weftd(NAPS, directory)
        os.makedirs(weftd.runtime)
        names = garbage_files(weftd.runtime)
        with weftd:
            still_good(weftd)
            for name in names:
                weftd.wait_log(f"{name}.1.1.blackbox")
        check(os.path.exists(bystander(weftd.runtime)), "what a link led to that is no black box is gone, by weftd or by the harness")


@test("files that are no black boxes, put there while weftd runs: likewise")
def garbage_meanwhile():
    with Weftd(NAPS) as weftd:
        weftd.running("naps")
        names = garbage_files(weftd.runtime)
        for name in names:
            weftd.wait_log(f"{name}.1.1.blackbox")
        still_good(weftd)


@test("a black box cut to nothing while it is mapped costs its worker at most")
def cut_short():
    with Weftd(NAPS + workload("other", plain("weft-naps"), "--nap", "0.2")) as weftd:
        weftd.running("naps")
        pid = weftd.running("other")
        name = [f for f in boxes(weftd) if f.startswith("other.")][0]
        os.truncate(os.path.join(weftd.runtime, name), 0)
        weftd.running("other", but=pid)
        check_equal(weftd.process.poll(), None, "weftd's exit status")
        check(weftd.tasks("naps"), "no tasks of naps")
        weftd.weftctl("status")
        weftd.check_history()


@test("a live worker that writes random bytes all over its black box harms its own data only")
def scribbled():
    chance = random.Random(2)
    with Weftd(NAPS + workload("other", program("weft-naps"), "--nap", "0.2", restart="no")) as weftd:
        naps = weftd.running("naps")
        pid = weftd.running("other")
        path = os.path.join(weftd.runtime, [f for f in boxes(weftd) if f.startswith("other.")][0])
        os.kill(pid, signal.SIGSTOP)  # the worker itself would stumble over it: what is tested is who reads
        try:
            with open(path, "r+b") as file:
                for part in range(60):
                    file.seek(4096 + chance.randrange(1 << (12 + part % 16)))
                    file.write(chance.randbytes(chance.randrange(1, 20000)))
                    if part % 6 == 5:
                        file.flush()
                        for command in (["tasks", "list", "--json"], ["status", "--json"], ["context", "show", "other/1"],
                                        ["tasks", "list", "--where", "shift=1"]):
                            weftd.weftctl(*command, status=None)
                        check_equal(weftd.process.poll(), None, "weftd's exit status")
        finally:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: weftd.workload("other")["state"] != "running", "the end of the worker is noticed")
        check_equal(weftd.running("naps"), naps, "pid of the other workload")
        check_equal(weftd.value("PRAGMA integrity_check"), "ok", "integrity_check")


@test("a black box for which weftd has no descriptor left is said to wait, and observed and recorded once there is room")
def no_room():
    with Weftd(NAPS) as weftd:
        weftd.running("naps")
        pid = weftd.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(set(range(len(used) + 1)) - used), limits[1]))
        other = subprocess.Popen([program("weft-naps"), "--nap", "0.1"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 env={**os.environ, "WEFT_BLACKBOX_DIR": weftd.runtime, "WEFT_WORKLOAD": "other"})
        weftd.wait_log("not observed until there is room")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        wait_until(lambda: weftd.value("SELECT count(*) FROM tasks WHERE workload = 'other' AND state = 'finished'") > 3, "its tasks are in the history")
        check(weftd.tasks("other"), "its tasks are not listed")
        other.terminate()
        other.wait()
        check_equal(weftd.count_log("not observed until there is room"), 1, "times that it was said")
        weftd.check_history()


run()
