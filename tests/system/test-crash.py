#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A worker dies of a signal: the history says of each of its tasks what it was doing, and where."""

import glob
import json
import os
import re
import signal
import sqlite3
import subprocess

from harness import *

need("weftctl", "weftd", "tests/system/circles", "tests/system/crasher")

CRASHER = plain("tests/system/crasher")
N_TASKS = 1000


def line_of(text):
    """Where in the program a remark stands."""
    for number, line in enumerate(read(os.path.join(SOURCE, "tests/system/crasher.c")).splitlines(), 1):
        if f"/* {text} */" in line:
            return number
    raise AssertionError(text)


class Crash:
    """What weftctl history crash says of a crasher under weftctl run."""

    def __init__(self, directory, how, status, env=None):
        self.database = os.path.join(directory, f"{how}.db")
        self.run = subprocess.run([program("weftctl"), "run", "--history", self.database, CRASHER, how], capture_output=True, text=True,
                                  timeout=DEADLINE, env={**os.environ, **(env or {})})
        check_equal(self.run.returncode, status, f"exit status of crasher {how}; stderr:\n{self.run.stderr}\n")

    def report(self, *arguments):
        result = subprocess.run([program("weftctl"), "history", "crash", "--db", self.database, *arguments], capture_output=True, text=True,
                                timeout=DEADLINE)
        check_equal(result.returncode, 0, f"exit status of history crash: {result.stderr}")
        return result.stdout

    def objects(self):
        rows = [json.loads(line) for line in self.report("--json").splitlines()]
        return rows[0], rows[1:]


class Directory(Weftd):
    """A directory for the databases; its weftd is not started."""

    def __enter__(self):
        return self.directory

    def __exit__(self, *_):
        self.clean()


def check_tasks(tasks, how):
    """All tasks with their waits, contexts and places, but for the culprit's."""
    check_equal(len(tasks), N_TASKS, f"tasks of {how}")
    for task in tasks:
        number = task["number"]
        if task["coro"] in ("sleeper", "locker"):
            wait, remark = (r"sleep", "the sleep") if task["coro"] == "sleeper" else (r"mutex 0x[0-9a-f]+ held by task 1|mutex 0x[0-9a-f]+", "the lock")
            check_equal(task["state"], "waiting", f"{how}: state of task {number}")
            check(re.fullmatch(wait, task["waiting_for"]), f"{how}: task {number} waits for {task['waiting_for']}")
            check_equal(task["context"].get("request"), str(number), f"{how}: request of task {number}")
            function = "sleeps" if task["coro"] == "sleeper" else "locker"
            check(re.fullmatch(rf"{function} at .*crasher\.c:{line_of(remark)}", task["place"] or ""), f"{how}: place of task {number}: {task['place']}")
        if task["coro"] == "sleeper":
            check_equal(task["context"].get("token"), "<redacted>", f"{how}: secret of task {number}")
        check_equal(task["parent_id"], None if number == 1 else tasks_id(task, 1), f"{how}: parent of task {number}")


def tasks_id(task, number):
    return f"{task['id'].rsplit('/', 1)[0]}/{number}"


def needs_its_own_signals():
    if SANITIZED and not WRAPPER:
        raise Skip("a sanitizer takes the signals that a process dies of, and what it leaves at its end")


@test("a NULL dereference, an assert and a kill in one of 1 000 tasks: all are listed with wait and context, and which one ran, and where")
def three_deaths():
    needs_its_own_signals()
    with Directory() as directory:
        for how, name, status, where, reason in (("null", "SIGSEGV", 139, "the null", "address 0x0"), ("assert", "SIGABRT", 134, "the assert", "abort()"),
                                                 ("kill", "SIGSEGV", 139, None, "sent by the process itself")):
            crash = Crash(directory, how, status)
            death, tasks = crash.objects()
            check_equal((death["signal_name"], death["running_id"]), (name, tasks_id(tasks[0], N_TASKS)), f"signal and running task of {how}")
            check(reason in death["reason"], f"reason of {how}: {death['reason']}")
            check(re.fullmatch(rf"dies at .*crasher\.c:{line_of(where) if where else '[0-9]+'}", death["place"]), f"place of {how}: {death['place']}")
            check(re.search(r"^culprit at .*crasher\.c:\d+$", death["stack"], re.M), f"stack of {how}:\n{death['stack']}")
            check_equal((tasks[0]["state"], tasks[0]["number"], tasks[0]["context"]["request"]), ("running", N_TASKS, str(N_TASKS)), f"first task of {how}")
            check_tasks(tasks, how)
            text = crash.report()
            check_equal(len(re.findall(r"^    \S+/\d+ 'Task-\d+'", text, re.M)), N_TASKS, f"tasks in the report of {how}")
            check("hunter2" not in text + crash.run.stderr, f"a secret in the report of {how}")
            check(re.search(rf"^989 waiting: sleeper, .*; in sleeps at .*:{line_of('the sleep')}$", text, re.M), text[:2000])
            check(f"ended by {name}" in crash.run.stderr and "more" in crash.run.stderr, f"weftctl run of {how} says so:\n{crash.run.stderr}")
            with sqlite3.connect(crash.database) as database:
                check_equal(database.execute("SELECT kind, task_id FROM events WHERE kind = 'crash'").fetchall(), [("crash", death["running_id"])],
                            "event")


@test("a stack overflow, a trap, a fault in another thread, a handler of the program's own")
def other_deaths():
    needs_its_own_signals()
    with Directory() as directory:
        death, tasks = Crash(directory, "overflow", 139).objects()
        check_equal(death["running_id"], tasks_id(tasks[0], N_TASKS), "the glutton")
        check(re.match(r"deep at .*crasher\.c", death["place"]), f"place of the overflow: {death['place']}")
        check_tasks(tasks, "overflow")
        check_equal(Crash(directory, "trap", 128 + signal.SIGTRAP).objects()[0]["signal_name"], "SIGTRAP", "signal")
        death, tasks = Crash(directory, "thread", 139).objects()
        check(re.match(r"faulting_thread at .*crasher\.c", death["place"]), f"place of the thread's fault: {death['place']}")
        check_equal(death["running_id"], tasks_id(tasks[0], N_TASKS), "the task that ran meanwhile")
        death, tasks = Crash(directory, "handler", 77).objects()
        check_equal((death["signal_name"], len(tasks)), (None, N_TASKS), "a handler that exits")
        check("took SIGSEGV before" in death["note"], f"note {death['note']}")


@test("killed from outside, with kill -SEGV or with kill -9, of which no process can leave a word")
def killed_from_outside():
    needs_its_own_signals()
    with Weftd(workload("crasher", CRASHER, "wait", restart="no")) as weftd:
        for number in (signal.SIGSEGV, signal.SIGKILL):
            weftd.weftctl("workloads", "start", "crasher")
            pid = weftd.running("crasher")
            wait_until(lambda: len([t for t in weftd.tasks("crasher") if t["state"] == "waiting"]) == N_TASKS, "all tasks wait")
            os.kill(pid, number)
            run_id = wait_until(lambda: weftd.query("SELECT run_id FROM crashes WHERE signal = ?", int(number)), "the crash is recorded")[0][0]
            wait_until(lambda: weftd.value("SELECT how FROM runs WHERE run_id = ?", run_id) != "running", "the run is closed")
            rows = weftd.json("history", "crash", str(run_id))
            death, tasks = rows[0], rows[1:]
            check_equal((death["running_id"], len(tasks)), (None, N_TASKS), "no task ran; all are there")
            if number == signal.SIGSEGV:
                check_equal(death["reason"], f"sent by pid {os.getpid()} (uid {os.getuid()})", "reason")
                check_tasks(tasks, "kill -SEGV")
            else:
                check_equal((death["stack"], tasks[0]["place"]), (None, None), "places")
                check("no crash file" in death["note"], death["note"])
                check_equal({t["waiting_for"].split()[0] for t in tasks}, {"sleep", "mutex", "event", "task"}, "waits")
        wait_until(lambda: not glob.glob(os.path.join(weftd.runtime, "crasher.*")), "no file is left in the runtime directory")
        check_equal(weftd.weftctl("history", "crash", "99", status=5).stderr.count("\n"), 1, "a run that is not there")
        weftd.weftctl("history", "crash", "x", status=2)


@test("what a thread did for a task, or was to do, is in the report by its name")
def threads():
    needs_its_own_signals()
    with Weftd(workload("threads", plain("tests/system/circles"), "threads", "20", restart="no")) as weftd:
        wait_until(lambda: [t["waiting_for"] for t in weftd.tasks("threads")].count("thread stands_still()") == 20, "all wait")
        os.kill(weftd.running("threads"), signal.SIGSEGV)
        wait_until(lambda: weftd.value("SELECT count(*) FROM crashed_tasks") == 21, "the tasks are recorded")
        check_equal(weftd.query("SELECT waiting_for, count(*) FROM crashed_tasks GROUP BY 1 ORDER BY 1"), [("sleep", 1), ("thread stands_still()", 20)], "waits")


@test("WEFT_CRASH_FILE=0 leaves signals and disk alone")
def opt_out():
    needs_its_own_signals()
    with Directory() as directory:
        death, tasks = Crash(directory, "null", 139, {"WEFT_CRASH_FILE": "0"}).objects()
        check_equal((death["signal_name"], death["stack"], len(tasks)), ("SIGSEGV", None, N_TASKS), "what the box alone says")


@test("a crash file that is garbage costs its places and nothing else")
def garbage():
    with Weftd(workload("crasher", CRASHER, "wait", restart="no")) as weftd:
        pid = weftd.running("crasher")
        wait_until(lambda: len([t for t in weftd.tasks("crasher") if t["state"] == "waiting"]) == N_TASKS, "all tasks wait")
        with open(os.path.join(weftd.runtime, f"crasher.{pid}.1.crash"), "wb") as file:
            file.write(b"weftcrsh" + b"\xff" * 4096)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: weftd.value("SELECT count(*) FROM crashed_tasks") == N_TASKS, "the tasks are recorded")
        check("garbage" in weftd.value("SELECT note FROM crashes"), "the note says so")


@test("a program that exits in the midst of its tasks has no signal")
def exits():
    needs_its_own_signals()
    with Directory() as directory:
        death, tasks = Crash(directory, "exit", 5).objects()
        check_equal((death["signal"], len(tasks)), (None, N_TASKS), "what is known")


@test("who reads a long report and has enough ends it without a word")
def reader_has_gone():
    needs_its_own_signals()
    with Directory() as directory:
        crash = Crash(directory, "null", 128 + signal.SIGSEGV)
        with sqlite3.connect(crash.database) as database:
            for table in ("t_tasks", "t_crashed"):  # ten times as many: more than a buffer and a pipe hold
                columns = ", ".join(row[1] for row in database.execute(f"PRAGMA table_info({table})"))
                database.execute(f"INSERT INTO {table} SELECT {columns.replace('key', 'key + n * 1000000', 1)} FROM {table}, "
                                 "(WITH RECURSIVE n(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 9) SELECT n FROM n)")
        database.close()
        for options in ([], ["--json"]):
            process = subprocess.Popen([program("weftctl"), "history", "crash", "-n", "0", "--db", crash.database, *options], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE)
            process.stdout.read(10)
            process.stdout.close()
            check_equal((process.wait(DEADLINE), process.stderr.read()), (1, b""), f"exit status and stderr of history crash {options}")
            process.stderr.close()


run()
