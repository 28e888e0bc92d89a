#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""weftd: what a list of 100 000 live tasks costs and what the workload feels of it, what watching idle workers costs, and how soon a
blocked step is reported."""

import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
os.environ.setdefault("WEFT_TEST_RUN", str(os.getpid()))
from benchlib import line  # noqa: E402
from harness import Varlink, Weftd, program, wait_until, workload  # noqa: E402

N_SLEEPERS = 100_000
N_IDLE = 10          # workers
IDLE_SECONDS = 5
IDLE_LIMIT = 0.5     # % of a core
N_BLOCKING = 5       # workers, of which each has five reports a minute
FIRST_REPORT_LIMIT_MS = 60  # after the threshold


def timed(*command, output=subprocess.DEVNULL):
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=output)
    return time.monotonic() - start


def worst_delay(path, seconds):
    """The worst lateness of the workload's ticker in the coming seconds, in ms; what() runs meanwhile."""
    with open(path, "r+b", buffering=0) as file:
        file.write(struct.pack("d", -1))
        seconds()
        file.seek(0)
        return struct.unpack("d", file.read(8))[0]


def bench_list():
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as directory:
        shared = os.path.join(directory, "late")
        config = workload("sleepers", program("tests/bench/sleepers"), N_SLEEPERS, shared)
        with Weftd(config) as weftd:
            wait_until(lambda: weftd.json("status")[0]["loops"] and weftd.json("status")[0]["loops"][0]["live"] > N_SLEEPERS,
                       "all tasks live", 60)
            command = [program("weftctl"), "-s", weftd.socket, "tasks", "list"]
            output = subprocess.run([*command, "--json"], check=True, capture_output=True).stdout
            assert output.count(b"\n") > N_SLEEPERS
            copy = os.path.join(directory, "copy")
            with open(copy, "wb") as file:
                file.write(output)
            base = statistics.median(timed("sh", "-c", f"cat {copy} | cat") for _ in range(7))
            table = statistics.median(timed(*command) for _ in range(7))
            lines = statistics.median(timed(*command, "--json") for _ in range(7))
            line("tasks_list_100k", table, "s", table / base, "the same bytes through a pipe by cat")
            line("tasks_list_json_100k", lines, "s", lines / base, "the same bytes through a pipe by cat")
            quiet = worst_delay(shared, lambda: time.sleep(2))
            busy = worst_delay(shared, lambda: [timed(*command) for _ in range(5)])
            line("list_worst_delay", busy, "ms", busy / max(quiet, 0.001), "the worst delay with nobody listing")


def steps(path):
    with open(path, "rb") as file:
        file.seek(8)
        return struct.unpack("d", file.read(8))[0]


def speed(path, what):
    """Steps a second of the busy workload while what() runs."""
    start, before = time.monotonic(), steps(path)
    what()
    return (steps(path) - before) / (time.monotonic() - start)


def bench_stacks():
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as directory:
        shared = os.path.join(directory, "count")
        config = workload("sleepers", program("tests/bench/sleepers"), N_SLEEPERS, shared, "busy")
        with Weftd(config) as weftd:
            wait_until(lambda: weftd.json("status")[0]["loops"] and weftd.json("status")[0]["loops"][0]["live"] > N_SLEEPERS,
                       "all tasks live", 60)
            command = [program("weftctl"), "-s", weftd.socket, "tasks", "stack", "--all"]
            listed = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout
            assert any(json.loads(group)["tasks"] == N_SLEEPERS for group in listed.splitlines())
            took = statistics.median(timed(*command) for _ in range(5))
            line("stack_all_100k", took, "s", took / 10, "10 s; must be <= 10", took <= 10)
            ratios = []
            for _ in range(5):
                quiet = speed(shared, lambda: time.sleep(0.5))
                ratios.append(speed(shared, lambda: [timed(*command) for _ in range(3)]) / quiet)
            ratio = statistics.median(ratios)
            line("stack_all_100k_worker", ratio * 100, "%", ratio, "its speed with nobody asking; must be >= 90", ratio >= 0.9)


def cpu_seconds(pid):
    """Of all its threads, as the scheduler counts it: in nanoseconds, where stat has ticks."""
    spent = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
            spent += int(file.read().split()[0])
    return spent / 1e9


def bench_idle():
    with Weftd(workload("idle", program("weft-blocking"), "--every", 86400, instances=N_IDLE)) as weftd:
        wait_until(lambda: len([l for l in weftd.json("status")[0]["loops"] if l["state"] == "polling"]) == N_IDLE, "all workers idle", 60)
        time.sleep(1)  # what the start has left over
        before, start = cpu_seconds(weftd.process.pid), time.monotonic()
        time.sleep(IDLE_SECONDS)
        percent = 100 * (cpu_seconds(weftd.process.pid) - before) / (time.monotonic() - start)
        line("weftd_idle_cpu", percent, "% of a core", percent / IDLE_LIMIT, f"{IDLE_LIMIT} % with {N_IDLE} idle workers", percent <= IDLE_LIMIT)


def bench_first_report():
    """From a step's begin to when somebody who follows the events has its first report."""
    heard = []
    config = workload("blocking", program("weft-blocking"), "--every", 0.31, "--block", 0.15, "--rounds", 5, instances=N_BLOCKING, restart="no")
    with Weftd() as weftd, Varlink(weftd.socket) as client:
        client.send("io.weft.Control.Events", {"kind": "blocked"}, more=True)
        client.receive()
        weftd.configure('slow = "100ms"\n' + config)
        weftd.process.send_signal(1)
        while len(heard) < 5 * N_BLOCKING:
            event = client.receive()["parameters"]["event"]
            heard.append((time.time_ns(), event["task_id"], event["time_ns"]))
        wait_until(lambda: weftd.value("SELECT count(*) FROM slow_steps WHERE coro = 'blocker'") >= 5 * N_BLOCKING, "all steps are recorded")
        late = []
        for heard_ns, task, time_ns in heard:
            step = weftd.query("SELECT started_ns FROM slow_steps WHERE task_id = ? AND started_ns <= ? ORDER BY started_ns DESC LIMIT 1", task, time_ns)
            late.append((heard_ns - step[0][0]) / 1e6 - 100)
        median, worst = statistics.median(late), max(late)
        line("first_report_ms", median, "ms", median / FIRST_REPORT_LIMIT_MS, f"threshold + {FIRST_REPORT_LIMIT_MS} ms", median <= FIRST_REPORT_LIMIT_MS)
        line("first_report_worst_ms", worst, "ms", worst / FIRST_REPORT_LIMIT_MS, f"threshold + {FIRST_REPORT_LIMIT_MS} ms, of {len(late)}",
             worst <= FIRST_REPORT_LIMIT_MS)


bench_list()
bench_stacks()
bench_idle()
bench_first_report()
