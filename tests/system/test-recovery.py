#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Nothing is lost and nothing recorded twice: when weftd ends in order, when it is killed, when a worker is."""

import os
import signal
import sqlite3
import struct
import time

from harness import *

RATE = 10000
FINISHED = "SELECT count(*) FROM tasks WHERE workload = 'burst' AND coro = 'burst_task' AND state = 'finished'"


class Burst(Weftd):
    def __init__(self, rate=RATE):
        super().__init__()
        self.count_file = os.path.join(self.directory, "count")
        self.configure(NAPS + workload("burst", program("tests/system/burst"), rate, self.count_file))

    def count(self):
        """How many tasks have finished, by the workload's own count."""
        try:
            with open(self.count_file, "rb") as file:
                return struct.unpack("<Q", file.read(8))[0]
        except (FileNotFoundError, struct.error):
            return 0

    def wait_more(self, n):
        """However slow the machine is now: what is waited for is work, not time."""
        before = self.count()
        wait_until(lambda: self.count() >= before + n, f"{n} more tasks have finished", deadline=6 * DEADLINE)


def check_close(got, expected, killed, what):
    """A task that has counted itself and was killed before it had returned is not recorded: one per kill."""
    check(expected - killed <= got <= expected, f"{what}: {got} of {expected} are recorded")


@test("SIGTERM while 10 000 tasks a second finish: every one that finished is in the database")
def terminated():
    with Burst() as weftd:
        weftd.wait_more(3 * RATE)
        weftd.stop()
        check_equal(weftd.value(FINISHED), weftd.count(), "tasks recorded")
        check_equal(weftd.query("SELECT DISTINCT how FROM runs"), [("exited",)], "how the runs have ended")
        check_equal(weftd.value("SELECT count(*) FROM gaps"), 0, "gaps")
        weftd.check_history()
        check_equal([f for f in os.listdir(weftd.runtime) if f.endswith(".blackbox")], [], "black boxes left behind")


@test("kill -9 of weftd under load, and a start after it: nothing is lost, nothing is there twice")
def weftd_killed():
    with Burst() as weftd:
        for _ in range(3):
            pid = weftd.running("burst")
            weftd.wait_more(RATE)
            weftd.kill()
            wait_until(lambda: not alive(pid), "the workers of a weftd that was killed end too")
            weftd.start()
        weftd.running("burst")
        weftd.wait_more(RATE)
        weftd.stop()
        check_close(weftd.value(FINISHED), weftd.count(), 3, "after three kills")
        check_equal(weftd.value("SELECT count(*) FROM runs WHERE workload = 'burst'"), 4, "runs")
        check_equal(weftd.value("SELECT count(*) FROM runs WHERE how = 'running'"), 0, "runs that nobody has closed")
        check_equal([f for f in os.listdir(weftd.runtime) if f.endswith(".blackbox")], [], "black boxes left behind")
        weftd.check_history()


@test("kill -9 of a worker: what it had finished is recorded, what it had not is crashed, and it is started again")
def worker_killed():
    with Burst() as weftd:
        pid = weftd.running("burst")
        weftd.wait_more(RATE)
        os.kill(pid, signal.SIGKILL)
        weftd.running("burst", but=pid)
        wait_until(lambda: weftd.query("SELECT 1 FROM runs WHERE pid = ? AND how = 'killed' AND signal = 9", pid),
                   "the run is closed as killed")
        main = weftd.query("SELECT state FROM tasks WHERE run_id = (SELECT run_id FROM runs WHERE pid = ?) AND number = 1",
                           pid)
        check_equal(main, [("crashed",)], "state of its main task")
        weftd.stop()
        check_close(weftd.value(FINISHED), weftd.count(), 1, "after one kill")
        weftd.check_history()


@test("while weftd does not run, a ring that is full drops records, and the gap says how many")
def ring_full():
    records = 1 << 18
    with Burst(rate=400000 // SCALE) as weftd:
        weftd.running("burst")
        weftd.process.send_signal(signal.SIGSTOP)
        try:
            weftd.wait_more(records + 100000 // SCALE)
        finally:
            weftd.process.send_signal(signal.SIGCONT)
        wait_until(lambda: weftd.query("SELECT 1 FROM gaps"), "the gap is in the history")
        check(weftd.json("status")[0]["recorder"]["dropped"] > 0, "status says nothing of the drops")
        slow = sum(loop["slow_steps"] for loop in weftd.json("status")[0]["loops"]) + 10  # (dropped ones are records, too)
        weftd.stop()
        finished, recorded = weftd.count(), weftd.value(FINISHED)
        dropped = weftd.value("SELECT sum(dropped) FROM gaps WHERE workload = 'burst'")
        # The ring may be full still when the worker ends: of the tasks that are cancelled then some are dropped, too. The totals have all.
        dropped -= (weftd.value("SELECT sum(failed + cancelled) FROM coroutine_minutes WHERE workload = 'burst'") -
                    weftd.value("SELECT count(*) FROM tasks WHERE workload = 'burst' AND state IN ('failed', 'cancelled')"))
        check(finished <= recorded + dropped <= finished + slow, f"{finished} have finished, {recorded} are recorded, {dropped} of them dropped")
        weftd.check_history()


@test("a black box left by a pid that now is somebody else's is recorded, and the somebody left in peace")
def recycled_pid():
    with Weftd("") as weftd:
        weftd.stop()
        count_file = os.path.join(weftd.directory, "count")
        env = {**os.environ, "WEFT_BLACKBOX_DIR": weftd.runtime, "WEFT_WORKLOAD": "burst"}
        worker = subprocess.Popen([program("tests/system/burst"), str(RATE), count_file], env=env)
        wait_until(lambda: os.path.exists(count_file) and os.path.getsize(count_file) == 8 and
                   struct.unpack("<Q", open(count_file, "rb").read(8))[0] > RATE / 2, "tasks have finished")
        worker.kill()
        worker.wait()
        finished = struct.unpack("<Q", open(count_file, "rb").read(8))[0]

        boxes = [f for f in os.listdir(weftd.runtime) if f.endswith(".blackbox")]
        check_equal(boxes, [f"burst.{worker.pid}.1.blackbox"], "black boxes left")
        bystander = subprocess.Popen(["sleep", "1000"])
        try:
            renamed = os.path.join(weftd.runtime, f"burst.{bystander.pid}.1.blackbox")
            os.rename(os.path.join(weftd.runtime, boxes[0]), renamed)
            with open(renamed, "r+b") as file:
                file.seek(box_offset("pid"))
                check_equal(struct.unpack("<i", file.read(4))[0], worker.pid, "bb_header.pid")
                file.seek(box_offset("pid"))
                file.write(struct.pack("<i", bystander.pid))

            weftd.start()
            wait_until(lambda: not os.path.exists(renamed), "the box is drained and removed")
            check_equal(weftd.json("tasks", "list"), [], "tasks listed as alive")
            check_close(weftd.value(FINISHED), finished, 1, "from the box")
            wait_until(lambda: weftd.value("SELECT how FROM runs WHERE workload = 'burst'") != "running", "the run is closed")
            weftd.stop()
            check(bystander.poll() is None, "the process that has the pid now was killed")
            weftd.check_history()
        finally:
            bystander.kill()
            bystander.wait()


@test("a history of an older version is brought up to date, and the log says so before")
def older_history():
    with Weftd(NAPS) as weftd:
        wait_until(lambda: weftd.value("SELECT count(*) FROM tasks") > 0, "there is a history")
        weftd.stop()
        check(not weftd.log_has("brought up"), "of one that is as it should be nothing is said")
        with sqlite3.connect(weftd.database) as database:  # version 3: a row for each variable
            database.executescript("CREATE TEMP TABLE v AS SELECT c.context_id, s.position, s.var, s.type, v0 AS value, 0 AS hash"
                                   " FROM t_contexts AS c JOIN t_shapes AS s USING (shape) WHERE s.position = 0;"
                                   "DROP TABLE t_contexts; DROP TABLE t_shapes; DROP TABLE t_values;"
                                   "CREATE TABLE t_values (context_id INTEGER, position INTEGER, var TEXT, type TEXT, value TEXT, hash INTEGER,"
                                   " PRIMARY KEY (context_id, position)) WITHOUT ROWID;"
                                   "INSERT INTO t_values SELECT * FROM v; PRAGMA user_version = 3")
            before = database.execute("SELECT * FROM t_values").fetchall()
        database.close()
        check(before, "there are contexts")
        weftd.start()
        said = read(weftd.log).splitlines()
        notices = [n for n, line in enumerate(said) if "history.db: of version 3: it is brought up to version 4" in line]
        check(len(notices) == 1 and "runs: 1 workload" in " ".join(said[notices[0]:]), f"what the log says: {said}")
        check_equal(weftd.query("SELECT context_id, var, type, value FROM context_vars WHERE context_id <= ?", before[-1][0]),
                    [(row[0], row[2], row[3], row[4]) for row in before], "the contexts")
        weftd.check_history()


run()
