#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What weftd and weftctl cost: a list of 100 000 live tasks, and the recorder at full load, each beside its limit."""

import os
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
os.environ.setdefault("WEFT_TEST_RUN", str(os.getpid()))
from harness import Weftd, program, wait_until, workload  # noqa: E402

N_SLEEPERS = 100_000
RECORD_SECONDS = 10


def line(name, value, unit, ratio, against):
    print(f"{name:<22} {value:>10.2f} {unit:<12} {ratio:>7.2f} {against}", flush=True)


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
            json = statistics.median(timed(*command, "--json") for _ in range(7))
            line("tasks_list_100k", table, "s", table / base, "the same bytes through a pipe by cat")
            line("tasks_list_json_100k", json, "s", json / base, "the same bytes through a pipe by cat")
            quiet = worst_delay(shared, lambda: time.sleep(2))
            busy = worst_delay(shared, lambda: [timed(*command) for _ in range(5)])
            line("list_worst_delay", busy, "ms", busy / max(quiet, 0.001), "the worst delay with nobody listing")


def bare_inserts(n=400_000):
    """Rows a second of a bare prepared INSERT of such a row, by SQLite itself, 10 000 a transaction."""
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as directory:
        script = (".open " + os.path.join(directory, "bare.db") + "\nPRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;\n"
                  "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c, d, e, f, g, h, i, j, k);\n" +
                  "".join(f"INSERT INTO t(a,b,c,d,e,f,g,h,i,j,k) WITH RECURSIVE n(x) AS (VALUES({i}) UNION ALL SELECT x+1 FROM n "
                          f"WHERE x<{i + 9999}) SELECT 1, x, 2, 0, 1700000000000000000+x, 100+x, 200, 300, 400, 500, 3 FROM n;\n"
                          for i in range(0, n, 10000)))
        start = time.monotonic()
        subprocess.run(["sqlite3"], input=script, text=True, check=True, stdout=subprocess.DEVNULL)
        return n / (time.monotonic() - start)


def bench_recorder():
    """The most that is taken over some seconds without a record dropped: the load is raised until the ring overflows."""
    base = bare_inserts()
    best = 0
    for rate in (200, 300, 400, 500, 600, 800):
        config = workload("storm", program("tests/bench/storm"), rate)
        with Weftd(config) as weftd:
            weftd.running("storm")
            time.sleep(1)
            before, start = weftd.json("status")[0], time.monotonic()
            time.sleep(RECORD_SECONDS)
            after, end = weftd.json("status")[0], time.monotonic()
            taken = (after["recorder"]["tasks"] - before["recorder"]["tasks"]) / (end - start)
            if after["recorder"]["dropped"] > 0:
                break
            best = max(best, taken)
    line("recorder", best, "tasks/s", best / base, f"INSERT … SELECT of such rows in SQLite alone ({base:.0f}/s)")


bench_list()
bench_recorder()
