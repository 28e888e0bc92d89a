#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Bad configuration, bad directories, bad databases: a clear error, and nothing else is harmed."""

import glob
import os
import shutil
import signal
import sqlite3

from harness import *


def refused(weftd, *words):
    """weftd does not come up, and says why in a line that has all of the words."""
    status, said = weftd.run_to_end()
    check(status > 0, f"weftd exits with {status} and says:\n{said}")
    check(any(all(word in line for word in words) for line in said.splitlines()),
          f"no line has all of {words}; weftd says:\n{said}")


class Prepared:
    """A weftd's directory, for one that is not to be started."""

    def __init__(self, config=""):
        self.weftd = Weftd(config)
        os.makedirs(self.weftd.state)

    def __enter__(self):
        return self.weftd

    def __exit__(self, *_):
        self.weftd.clean()


@test("a good configuration passes --check, which starts nothing")
def check_passes():
    with Prepared(NAPS) as weftd:
        weftd.arguments = ["--check"]
        status, said = weftd.run_to_end()
        check_equal(status, 0, f"exit status of --check, which says {said!r}")
        check(not os.path.exists(weftd.socket), "--check has made a socket")


@test("an unknown option is an error that names file, line and option")
def unknown_option():
    with Prepared(NAPS + 'history { colour = "blue" }\n') as weftd:
        line = NAPS.count("\n") + 1
        refused(weftd, weftd.config, str(line), "colour")
        weftd.arguments = ["--check"]
        refused(weftd, weftd.config, str(line), "colour")


@test("bad values are errors that name file and line")
def bad_values():
    for config in ('workload a {\n command = { "x" }\n restart = sometimes\n}\n',
                   'workload a {\n command = { "x" }\n instances = 0\n}\n',
                   'history {\n\n max_age = "soon"\n}\n',
                   'workload a {\n\n command = { "x" }\n'):
        with Prepared(config) as weftd:
            refused(weftd, weftd.config, "3" if not config.endswith('"x" }\n') else ":")


@test("a workload needs one of command and module, and a name that can be in a task's ID")
def bad_workloads():
    for config, word in (("workload a {\n}\n", "a"),
                         ('workload a {\n command = { "x" }\n module = "y.so"\n}\n', "module"),
                         ('workload "a/b" {\n command = { "x" }\n}\n', "a/b"),
                         ('workload a {\n command = { "x" }\n}\nworkload a {\n command = { "y" }\n}\n', "a")):
        with Prepared(config) as weftd:
            refused(weftd, weftd.config, word)


@test("a configuration file that is not there is an error that names it")
def no_configuration():
    with Prepared() as weftd:
        os.unlink(weftd.config)
        refused(weftd, weftd.config, "No such file")


@test("a workload whose program is missing fails with its name, and the others run")
def missing_program():
    config = NAPS + workload("lost", "/nonexistent/program", "--x") + workload("unknown", "weft-no-such-program")
    with Weftd(config) as weftd:
        weftd.running("naps")
        weftd.wait_log("/nonexistent/program")
        weftd.wait_log("weft-no-such-program")
        for name in ("lost", "unknown"):
            check(weftd.workload(name)["state"] in ("waiting", "failed"), f"state of {name}: {weftd.workload(name)}")
        check(weftd.tasks("naps"), "no tasks of naps")


@test("a second weftd on the same directory is refused, and the first goes on")
def second_weftd():
    with Weftd(NAPS) as weftd:
        pid = weftd.running("naps")
        refused(weftd, weftd.directory)
        check_equal(weftd.running("naps"), pid, "pid of naps")
        check(weftd.tasks("naps"), "no tasks of naps")


GONE = "nobody can reach this weftd"


def renewed(weftd, n):
    """SIGHUP after the n-th loss, which the log has told once."""
    wait_until(lambda: weftd.count_log(GONE) == n, "weftd notices that its socket has gone")
    check("no weftd answers" in weftd.weftctl("status", status=3).stderr, "what weftctl says meanwhile")
    weftd.process.send_signal(signal.SIGHUP)
    weftd.wait_log("configuration reloaded")
    wait_until(weftd.answers, "weftd answers again")
    check_equal(weftd.count_log(GONE), n, "how often it was told")


def holds_box(weftd, box):
    directory = f"/proc/{weftd.process.pid}/fd"
    for fd in os.listdir(directory):
        try:
            if os.readlink(os.path.join(directory, fd)).removesuffix(" (deleted)") == box:
                return True
        except FileNotFoundError:
            pass  # it was closed meanwhile
    return False


@test("a control socket that was taken away, alone or with its directory, is missed in the log and made anew at SIGHUP")
def socket_taken_away():
    with Weftd(NAPS) as weftd:
        pid = weftd.running("naps")
        os.unlink(weftd.socket)
        renewed(weftd, 1)
        check_equal(weftd.running("naps"), pid, "the worker")
        status, said = weftd.run_to_end()
        check(status > 0 and "another weftd" in said, f"the directory is not held any more: {said}")
        check(weftd.answers(), "the first goes on")

        box = os.path.realpath(glob.glob(os.path.join(weftd.runtime, "naps.*.blackbox"))[0])  # in /dev/shm, where the directory is on a disk
        shutil.rmtree(weftd.runtime)
        renewed(weftd, 2)
        check_equal(weftd.running("naps"), pid, "the worker, of which there is no file any more")
        status, said = weftd.run_to_end()
        check(status > 0 and "another weftd" in said, f"the new directory is not held: {said}")
        weftd.weftctl("workloads", "restart", "naps")
        other = weftd.running("naps", but=pid)
        wait_until(lambda: weftd.value("SELECT count(*) FROM tasks JOIN runs USING (run_id) WHERE pid = ?", other) > 0, "a later worker is recorded")
        check(weftd.value("SELECT count(*) FROM tasks JOIN runs USING (run_id) WHERE pid = ?", pid) > 0, "and so was the first")
        wait_until(lambda: weftd.value("SELECT how FROM runs WHERE pid = ?", pid) == "exited", "the first one has ended")
        wait_until(lambda: not holds_box(weftd, box), "weftd lets go of the first one's black box, and so of the old directory")
        weftd.stop()
        check(not os.path.exists(box), f"{box}, whose link was taken away, is still there")
        check(not weftd.log_has("will not be seen"), f"what is told of a directory that was made anew:\n{read(weftd.log)}")
        weftd.check_history()


@test("a runtime directory that another weftd has taken meanwhile is left to that one")
def directory_taken_over():
    with Weftd(NAPS) as first:
        first.running("naps")
        shutil.rmtree(first.runtime)
        second = Weftd(NAPS)
        second.runtime, second.socket = first.runtime, first.socket
        with second:
            second.running("naps")
            first.wait_log(GONE)
            first.process.send_signal(signal.SIGHUP)
            first.wait_log("another weftd")
            check(second.answers(), "the second is served")
            first.stop()
            check_equal(second.json("status")[0]["pid"], second.process.pid, "whose socket it is, after the first has ended")


@test("a second weftd with a runtime directory of its own but the same history is refused")
def second_writer():
    with Weftd(NAPS) as weftd, Prepared(NAPS) as other:
        pid = weftd.running("naps")
        other.state = weftd.state
        refused(other, f"history.db: another weftd (pid {weftd.process.pid}) writes this history")
        check_equal(weftd.value("SELECT count(*) FROM runs WHERE how <> 'running'"), 0, "runs that have ended")
        check_equal(weftd.running("naps"), pid, "pid of naps")


@test("a state directory that cannot be one is an error that names it")
def unwritable_state():
    with Weftd(NAPS) as weftd:  # (to be cleaned up by)
        weftd.stop()
        for directory in ("file", "file/below"):
            with open(os.path.join(weftd.directory, "file"), "w"):
                pass
            weftd.state = os.path.join(weftd.directory, directory)
            refused(weftd, weftd.state)


@test("a runtime directory that cannot be one is an error that names it")
def unwritable_runtime():
    with Prepared(NAPS) as weftd:
        with open(weftd.runtime, "w"):
            pass
        refused(weftd, weftd.runtime)


@test("a history database of a newer version is refused by name and left as it is")
def newer_database():
    with Weftd(NAPS) as weftd:
        weftd.running("naps")
        weftd.stop()
        connection = sqlite3.connect(weftd.database)
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE future (x)")
        connection.commit()
        connection.close()
        refused(weftd, weftd.database, "99")
        check_equal(weftd.query("SELECT name FROM sqlite_master WHERE name = 'future'"), [("future",)], "the newer version's table")
        check_equal(weftd.value("PRAGMA user_version"), 99, "user_version")


@test("somebody else's database is refused by name and left as it is")
def foreign_database():
    with Prepared(NAPS) as weftd:
        connection = sqlite3.connect(weftd.database)
        connection.execute("CREATE TABLE stamps (country, year)")
        connection.commit()
        connection.close()
        refused(weftd, weftd.database)
        check_equal(weftd.query("SELECT name FROM sqlite_master"), [("stamps",)], "tables")


@test("a history database that is none is refused by name and left as it is")
def no_database():
    with Prepared(NAPS) as weftd:
        garbage = b"This is no database.\n" * 1000
        with open(weftd.database, "wb") as file:
            file.write(garbage)
        refused(weftd, weftd.database)
        with open(weftd.database, "rb") as file:
            check(file.read() == garbage, "the file was changed")


@test("a worker that fails at once is started again, each time later, and weftd goes on")
def failing_worker():
    with Weftd(NAPS + workload("failing", "/bin/sh", "-c", "exit 7")) as weftd:
        wait_until(lambda: weftd.workload("failing")["restarts"] >= 2, "it was started again twice")
        check("7" in weftd.workload("failing")["last_exit"], f"last_exit: {weftd.workload('failing')}")
        wait_until(lambda: weftd.value("SELECT count(*) FROM runs WHERE workload = 'failing' AND exit_code = 7") >= 2,
                   "its runs are in the history")
        weftd.running("naps")


@test("a worker that ignores SIGTERM does not keep weftd from ending")
def stubborn_worker():
    script = "trap '' TERM; echo it does not listen; while :; do sleep 0.1; done"
    with Weftd('stop_timeout = "0.5s"\n' + NAPS + workload("stubborn", "/bin/sh", "-c", script)) as weftd:
        weftd.running("naps")
        weftd.wait_log("it does not listen")
        pid = weftd.workload("stubborn")["pid"]
        weftd.stop()
        check_equal(weftd.query("SELECT how, signal FROM runs WHERE pid = ?", pid), [("killed", 9)], "how it ended")


run()
