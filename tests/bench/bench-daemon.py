#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a list of 100 000 live tasks costs, weftctl and weftd together, and what the workload feels of it."""

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
from harness import Weftd, program, wait_until, workload  # noqa: E402

N_SLEEPERS = 100_000


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


bench_list()
bench_stacks()
