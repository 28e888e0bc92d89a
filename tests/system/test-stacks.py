#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Where tasks stand: weftctl tasks stack, of suspended, blocked and spinning ones, one by one and all together."""

import os
import re
import signal

from harness import *

COUNT = 3000
STANDER = "tests/system/stander"
CONFIG = (workload("waiting", program(STANDER), COUNT) + workload("spinning", plain(STANDER), 2, "spin") +
          workload("blocking", plain("weft-blocking"), "--every", "0.01", "--block", 2))


def line_of(file, mark):
    """The number of the one line of a source file that has the mark."""
    lines = [n for n, line in enumerate(read(os.path.join(SOURCE, file)).splitlines(), 1) if mark in line]
    check_equal(len(lines), 1, f"lines with '{mark}' in {file}")
    return lines[0]


WAITS = ["stand_waiting", "tests/system/stander.c", line_of("tests/system/stander.c", "/* waits here */")]
CALLS = ["waiter", "tests/system/stander.c", line_of("tests/system/stander.c", "/* called here */")]
SPINS = ["stand_spinning", "tests/system/stander.c", line_of("tests/system/stander.c", "/* spins here */")]
BLOCKS = ["block", "daemon/workloads/blocking.c", line_of("daemon/workloads/blocking.c", "if (sleep((unsigned)(")]


def stands_at(frames, *places):
    """The frames of functions in a row, at these files and lines?"""
    for i in range(len(frames) - len(places) + 1):
        if all(f["function"] == function and f["file"] and f["file"].endswith(file) and f["line"] == line
               for f, (function, file, line) in zip(frames[i:], places)):
            return True
    return False


def check_stands(frames, *places):
    check(stands_at(frames, *places), f"not at {places}: {[(f['function'], f['file'], f['line']) for f in frames]}")


def task_of(weftd, workload_name, coro):
    found = [t for t in weftd.tasks(workload_name) if t["coro"] == coro]
    return found[0] if found else None


def all_there(weftd):
    return len(weftd.tasks("waiting")) == COUNT + 1


@test("the stack of a suspended task has every function with its file and line, as text and as JSON")
def a_suspended_task():
    with Weftd(CONFIG) as weftd:
        task = wait_until(lambda: task_of(weftd, "waiting", "waiter"), "a waiter is there")
        wait_until(lambda: weftd.json("tasks", "show", task["id"])[0]["state"] == "waiting", "it waits")
        shown = weftd.json("tasks", "stack", task["id"])[0]
        check_equal((shown["id"], shown["coro"], shown["state"], shown["waiting_for"]), (task["id"], "waiter", "waiting", "sleep"), "the task")
        check_equal(shown["stack"]["incomplete"], None, "what is missing")
        check_equal(shown["stack"]["stopped_ms"], None, "how long its thread was stopped")
        check_stands(shown["stack"]["frames"], WAITS, CALLS)
        text = weftd.weftctl("tasks", "stack", task["id"]).stdout
        check(re.match(r'waiting/\d+ waiter "Task-\d+": waiting for sleep, [\d.]+[a-z]+\n', text), f"the heading is {text.splitlines()[0]!r}")
        for function, file, line in (WAITS, CALLS):
            check(re.search(rf"^    {function} at \S*{re.escape(file)}:{line}$", text, re.M), f"no line of {function} in:\n{text}")


@test("a blocked task's stack is read without a stop, and names the function that blocks; its block lasts as long as it was to")
def a_blocked_task():
    with Weftd(CONFIG) as weftd:
        def blocked():
            task = task_of(weftd, "blocking", "blocker")
            return task if task and task["state"] == "running" and task["in_state_ms"] < 1500 else None
        task = wait_until(blocked, "blocking blocks")
        shown = weftd.json("tasks", "stack", task["id"])[0]
        check_stands(shown["stack"]["frames"], BLOCKS)
        check_equal(shown["stack"]["stopped_ms"], None, "how long its thread was stopped")
        check_equal(shown["stack"]["syscall"], "clock_nanosleep", "the system call")
        rows = wait_until(lambda: weftd.query("SELECT took_ms FROM slow_steps WHERE workload = 'blocking'"), "the step is recorded")
        check(2000 <= rows[0][0] < 2000 + 500 * SCALE, f"the step took {rows[0][0]} ms")


@test("a spinning task's stack is read, and its thread goes on")
def a_spinning_task():
    with Weftd(CONFIG) as weftd:
        task = wait_until(lambda: task_of(weftd, "spinning", "spinner"), "the spinner is there")
        pid = wait_until(lambda: weftd.workload("spinning")["pid"], "its process")

        def stack():
            shown = weftd.json("tasks", "stack", task["id"])[0]
            return shown if stands_at(shown["stack"]["frames"], SPINS) else None
        shown = wait_until(stack, "it spins where it is to")
        check_equal(shown["state"], "running", "its state")
        check_equal(shown["stack"]["incomplete"], None, "what is missing")
        check(shown["stack"]["stopped_ms"] > 0, "it was not stopped")

        def ticks():
            return int(read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[11])
        before = ticks()
        wait_until(lambda: ticks() > before, "it spins on")
        check(read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[0] == "R", "it does not run")
        check_equal(weftd.workload("spinning")["pid"], pid, "its process after it was looked at")


@test("--all gives each stack once, those that run first, then the most frequent; -w only those of a workload")
def all_stacks():
    with Weftd(CONFIG) as weftd:
        wait_until(lambda: all_there(weftd) and task_of(weftd, "spinning", "spinner"), "all tasks are there")

        def groups():
            found = weftd.json("tasks", "stack", "--all")
            large = [g for g in found if g["tasks"] == COUNT and g["state"] == "waiting"]
            return found if large and any(g["state"] == "running" for g in found) else None
        found = wait_until(groups, "all waiters wait")
        check_equal(found[0]["state"], "running", "the first group's state")
        waiting = [g for g in found if g["state"] != "running"]
        check_equal([g["tasks"] for g in waiting], sorted((g["tasks"] for g in waiting), reverse=True), "sizes of the groups")
        check_equal((waiting[0]["workload"], waiting[0]["coro"], waiting[0]["tasks"], waiting[0]["waiting_for"]), ("waiting", "waiter", COUNT, "sleep"),
                    "the largest")
        check_equal(len(waiting[0]["ids"]), 8, "IDs in it")
        check_stands(waiting[0]["stack"]["frames"], WAITS, CALLS)
        # The same function in another process of the same program: another workload, another group.
        check([g for g in found if g["workload"] == "spinning" and g["coro"] == "waiter" and g["tasks"] == 2], "no group of the two other waiters")

        only = weftd.json("tasks", "stack", "--all", "-w", "spinning")
        check_equal({g["workload"] for g in only}, {"spinning"}, "workloads with -w")
        text = weftd.weftctl("tasks", "stack", "--all", "-w", "waiting").stdout
        check(re.search(rf"^{COUNT} tasks of waiting in waiter: waiting for sleep, up to [\d.]+[a-z]+: waiting/\d+, .*, …$", text, re.M),
              f"no heading of the large group in:\n{text}")


@test("a frozen worker's tasks are read all the same; a dead one's, and one that is not there, end with 5")
def frozen_and_dead():
    with Weftd(workload("waiting", program(STANDER), 5, restart="no")) as weftd:
        pid = weftd.running("waiting")
        task = wait_until(lambda: task_of(weftd, "waiting", "waiter"), "a waiter is there")
        wait_until(lambda: weftd.json("tasks", "show", task["id"])[0]["state"] == "waiting", "it waits")
        os.kill(pid, signal.SIGSTOP)
        try:
            check_stands(weftd.json("tasks", "stack", task["id"])[0]["stack"]["frames"], WAITS, CALLS)
        finally:
            os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)

        def gone():
            result = weftd.weftctl("tasks", "stack", task["id"], status=None)
            return result if result.returncode == 5 else None
        result = wait_until(gone, "the task of a dead worker is gone")
        check("no live task" in result.stderr and result.stderr.count("\n") == 1, f"it says {result.stderr!r}")
        check_equal(weftd.json("tasks", "stack", "--all"), [], "stacks with no task there")
        for arguments in ([], ["--all", "waiting/1"], ["-w", "waiting", "waiting/1"], ["nonsense"]):
            check_equal(weftd.weftctl("tasks", "stack", *arguments, status=None).returncode, 2, f"exit status of tasks stack {arguments}")


need("weftd", "weftctl", STANDER)
run()
