#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""weftctl against a real weftd: exit codes, cancelling, what tables and JSON say."""

import os
import pwd

from harness import *


@test("exit codes: 2 bad usage, 3 no daemon there, 5 no such thing, 1 a statement that fails")
def exit_codes():
    with Weftd(NAPS) as weftd:
        weftd.running("naps")
        weftd.weftctl("status")
        weftd.weftctl("no-such-command", status=2)
        weftd.weftctl("tasks", "list", "--no-such-option", status=2)
        weftd.weftctl("set-debug", "maybe", status=2)
        weftd.weftctl("tasks", "show", "naps/99999999", status=5)
        weftd.weftctl("context", "show", "nobody/1", status=5)
        weftd.weftctl("history", "sql", "SELECT nonsense FROM nowhere", status=1)
        weftd.weftctl("history", "sql", "DELETE FROM tasks", status=1)
    for arguments in (["status"], ["tasks", "list"], ["set-debug", "on"]):
        result = weftd.weftctl(*arguments, status=3)
        check_equal(len(result.stderr.splitlines()), 1, f"lines on stderr of weftctl {arguments}: {result.stderr!r}")


@test("a workload that there is not is said to be none; one without tasks has an empty list")
def no_such_workload():
    with Weftd(NAPS) as weftd:
        weftd.running("naps")
        for arguments in (["tasks", "list"], ["tasks", "list", "--watch"], ["tasks", "tree"], ["tasks", "stack", "--all"], ["set-debug", "on"]):
            result = weftd.weftctl(*arguments, "-w", "nope", status=5)
            check_equal((result.stdout, result.stderr), ("", "weftctl: no workload 'nope' (weftctl workloads list)\n"), f"weftctl {arguments} -w nope")
            check_equal(weftd.weftctl(*arguments, "-w", "nope", "--json", status=5).stdout, "", f"weftctl {arguments} -w nope --json")
        weftd.weftctl("workloads", "stop", "naps")
        wait_until(lambda: weftd.workload("naps")["state"] == "stopped", "naps has ended")
        for arguments in (["tasks", "list"], ["tasks", "tree"], ["tasks", "stack", "--all"]):
            check_equal(weftd.json(*arguments, "-w", "naps"), [], f"weftctl {arguments} -w naps")
        check_equal(weftd.json("events", "-w", "nope"), [], "the history may be asked about any name")


@test("someone who may not open the socket gets exit code 4, and does not change anything")
def not_permitted():
    if os.geteuid() != 0:
        raise Skip("only root can become somebody else")
    nobody = pwd.getpwnam("nobody")
    with Weftd(NAPS) as weftd:
        weftd.running("naps")
        os.chmod(weftd.directory, 0o755)
        os.chmod(weftd.runtime, 0o755)

        def as_nobody(*arguments):
            return subprocess.run([program("weftctl"), "-s", weftd.socket, *arguments], capture_output=True, text=True,
                                  user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], cwd="/")
        try:
            as_nobody("--version")
        except PermissionError:
            raise Skip("the build directory is not open to nobody")
        os.chmod(weftd.socket, 0o660)
        check_equal(as_nobody("status").returncode, 4, "exit status where the socket is closed to one")
        os.chmod(weftd.socket, 0o666)  # past the first check: now weftd's own
        check_equal(as_nobody("set-debug", "on").returncode, 4, "exit status of set-debug")
        check_equal(as_nobody("tasks", "cancel", "naps/1").returncode, 4, "exit status of tasks cancel")
        check(not any(loop["debug"] for loop in weftd.json("status")[0]["loops"]), "debug mode is on")


@test("a task is cancelled by weftctl: it ends as cancelled, and the history says by whom")
def cancel():
    with Weftd(workload("naps", program("weft-naps"), "--nap", "3600", restart="no")) as weftd:
        weftd.running("naps")
        nap = wait_until(lambda: [t for t in weftd.tasks("naps") if t["coro"] == "nap"], "there are naps")[0]
        weftd.weftctl("tasks", "cancel", nap["id"], "--reason", "wake up")
        done = "SELECT state, cancelled_by FROM tasks WHERE coro = 'nap' AND name = ?"
        row = wait_until(lambda: weftd.query(done, nap["name"]), "the nap is in the history")[0]
        check_equal(row[0], "cancelled", "its state")
        check("wake up" in row[1] and str(os.geteuid()) in row[1], f"cancelled_by is {row[1]!r}")
        audit = weftd.query("SELECT uid, target, result FROM audit")
        check_equal(audit[0][:2], (os.geteuid(), nap["id"]), "audit")


@test("children inherit context variables, and a secret one's value is nowhere to be seen")
def contexts():
    with Weftd(NAPS) as weftd:
        weftd.running("naps")
        nap = wait_until(lambda: [t for t in weftd.tasks("naps") if t["coro"] == "nap"], "there are naps")[0]
        shown = weftd.weftctl("tasks", "show", nap["id"], status=None)
        nap_context = wait_until(lambda: {v["var"]: v["value"] for t in weftd.tasks("naps") if t["coro"] == "nap"
                                          for v in map(json.loads, weftd.weftctl("context", "show", t["id"], "--json", status=None)
                                                       .stdout.splitlines()) if "var" in v},
                                 "the context of a nap")
        check(nap_context["napper"].startswith("napper-"), f"context: {nap_context}")
        check_equal(nap_context["badge"], "<redacted>", "the secret variable")
        check(int(nap_context["shift"]) >= 1, f"context: {nap_context}")
        check(shown.returncode in (0, 5), f"tasks show: {shown}")
        wait_until(lambda: weftd.value("SELECT count(*) FROM tasks WHERE coro = 'nap'") > 5, "naps are in the history")
        check_equal(weftd.query("SELECT DISTINCT value FROM context_vars WHERE var = 'badge'"), [("<redacted>",)], "recorded")
        for directory in (weftd.runtime, weftd.state):
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                if os.path.isfile(path):
                    with open(os.path.realpath(path), "rb") as file:
                        check(b"1729-night" not in sparse_read(file), f"the secret is in {path}")


def sparse_read(file):
    """What is allocated of a sparse file."""
    content, offset, end = b"", 0, os.fstat(file.fileno()).st_size
    while offset < end:
        try:
            start = os.lseek(file.fileno(), offset, os.SEEK_DATA)
        except OSError:
            break
        offset = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        content += os.pread(file.fileno(), offset - start, start)
    return content


@test("a module under weft-host is a workload like any other")
def module():
    config = workload("hosted", program("weft-host"), program(".libs/naps.so"), "--nap", "0.2")
    with Weftd(config) as weftd:
        weftd.running("hosted")
        check_equal(weftd.json("tasks", "list", "-w", "hosted", "--coro", "no_such"), [], "tasks of no coroutine")
        wait_until(lambda: [t for t in weftd.tasks("hosted") if t["coro"] == "nap"], "its naps are listed")


@test("history works without a daemon, on the file that --db names")
def history_without_daemon():
    with Weftd(NAPS) as weftd:
        weftd.running("naps")
        wait_until(lambda: weftd.value("SELECT count(*) FROM tasks WHERE coro = 'nap'") > 3, "naps are in the history")
        weftd.stop()
        rows = weftd.json("history", "tasks", "--db", weftd.database, "-n", "3")
        check_equal(len(rows), 3, "rows of history tasks")
        for key in ("id", "name", "coro", "state", "wall_ms", "busy_ms", "scheduled_ms", "idle_ms"):
            check(key in rows[0], f"{key} is missing: {rows[0]}")
        count = weftd.weftctl("history", "sql", "SELECT count(*) AS n FROM tasks", "--db", weftd.database, "--json").stdout
        several = weftd.weftctl("history", "sql", 'SELECT 1 AS a, 2 AS b, 3 AS a, 4 AS a, 5 AS "a:1", 6 AS b, \'\u202ex\' AS "\u202ey"', "--db", weftd.database, "--json").stdout
        check_equal(json.loads(several, object_pairs_hook=list),
                    [("a", 1), ("b", 2), ("a:2", 3), ("a:3", 4), ("a:1", 5), ("b:1", 6), ("\u202ey", "\u202ex")], "columns of one name")
        check_equal(weftd.weftctl("history", "sql", "SELECT '\u202ex' AS \"\u202ey\"", "--db", weftd.database).stdout, "?y\n?x\n", "text that turns its direction")
        check_equal(json.loads(count), {"n": weftd.value("SELECT count(*) FROM tasks")}, "history sql")


run()
