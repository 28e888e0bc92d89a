#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A workload blocks its loop: weftctl answers all the same, and debug mode is switched while it does."""

import re
import time

from harness import *

BLOCK = 2
CONFIG = (NAPS + workload("echo", program("weft-echo"), "--listen", "127.0.0.1:0") +
          workload("blocking", program("weft-blocking"), "--every", 1, "--block", BLOCK))
REPORT = re.compile(r"WARNING:weft:Executing <Task .*\bblocker\(\).*> took (\d+\.\d{3}) seconds$", re.M)


def blocked(weftd):
    """True at the start of a block: the blocker runs, and has not done so for long."""
    tasks = [t for t in weftd.tasks("blocking") if t["coro"] == "blocker"]
    return tasks and tasks[0]["state"] == "running" and tasks[0]["in_state_ms"] < BLOCK * 1000 / 4


def slow_steps(weftd):
    return weftd.value("SELECT count(*) FROM slow_steps WHERE workload = 'blocking'")


@test("weftctl answers within 200 ms while a loop is blocked, and debug mode takes effect on the step in flight")
def a_blocked_loop():
    with Weftd(CONFIG) as weftd:
        weftd.running("blocking")
        wait_until(lambda: blocked(weftd), "blocking blocks", every=0.005)

        started = time.monotonic()
        listed = weftd.tasks("blocking")
        took = time.monotonic() - started
        check(listed, "no task of the blocked workload is listed")
        check(took < 0.2 * SCALE, f"tasks list took {took:.3f} s while the loop was blocked")

        started = time.monotonic()
        weftd.weftctl("set-debug", "on")
        took = time.monotonic() - started
        check(took < 0.2 * SCALE, f"set-debug on took {took:.3f} s while the loop was blocked")
        still = [t for t in weftd.tasks("blocking") if t["coro"] == "blocker"][0]
        check_equal(still["state"], "running", "state of the blocker: all of that must have happened within the block")
        check_equal(REPORT.findall(read(weftd.log)), [], "reports before the step in flight has ended")

        wait_until(lambda: REPORT.findall(read(weftd.log)), "the step in flight is reported when it ends")
        took = float(REPORT.findall(read(weftd.log))[0])
        check(BLOCK <= took < BLOCK + 0.1 * SCALE, f"the block is said to have taken {took} s")

        weftd.weftctl("set-debug", "off")
        wait_until(lambda: blocked(weftd), "blocking blocks again", every=0.005)
        reports = len(REPORT.findall(read(weftd.log)))
        steps = slow_steps(weftd)
        wait_until(lambda: slow_steps(weftd) > steps, "a block with debug mode off is in slow_steps all the same")
        check_equal(len(REPORT.findall(read(weftd.log))), reports, "reports after set-debug off")


@test("set-debug -w changes one workload only, and --slow its threshold")
def one_workload():
    with Weftd(NAPS + workload("blocking", program("weft-blocking"), "--every", 0.05, "--block", 0.05)) as weftd:
        weftd.running("blocking")
        weftd.running("naps")
        weftd.weftctl("set-debug", "on", "-w", "blocking", "--slow", "20ms")
        wait_until(lambda: REPORT.findall(read(weftd.log)), "steps of 50 ms are reported at a threshold of 20 ms")
        debug = {loop["workload"]: loop["debug"] for loop in weftd.json("status")[0]["loops"]}
        check_equal(debug, {"naps": False, "blocking": True}, "debug by workload")


run()
