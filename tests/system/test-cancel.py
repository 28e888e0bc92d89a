#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where a cancel came from, on which way, how long it took, and who swallowed it; lists by context variables."""

import os
import re

from harness import SOURCE, Weftd, check, check_equal, need, program, read, run, test, wait_until, workload

need("weftctl", "weftd", "tests/system/cancels", "tests/system/crasher")


def line_of(text):
    for number, line in enumerate(read(os.path.join(SOURCE, "tests/system/cancels.c")).splitlines(), 1):
        if f"/* {text} */" in line:
            return number
    raise AssertionError(text)


@test("the history says who cancelled, from which line, through whom, how long it took, and who swallowed it")
def in_the_history():
    with Weftd(workload("cancels", program("tests/system/cancels"), restart="no")) as weftd:
        wait_until(lambda: weftd.query("SELECT 1 FROM runs WHERE how = 'exited'"), "the program has ended")
        rows = {row[0]: row[1:] for row in weftd.query("SELECT coro, state, cancelled_by, cancelled_where, cancelled_via_id, cancel_latency_ms, "
                                                       "cancel_swallowed, parent_id, id FROM tasks")}
        for coro, via in (("awaiter", None), ("sleeper", rows["awaiter"][7])):
            state, by, where, through, latency, swallowed, *_ = rows[coro]
            check_equal((state, swallowed, through), ("cancelled", 0, via), f"the cancel of {coro}")
            check(where.endswith(f"cancels.c:{line_of('the first cancel')}") and by == f"Task-1 at {where}: too late", f"{coro}: {by!r} from {where!r}")
            check(latency is not None and 0 <= latency < 60000, f"latency of {coro}: {latency}")
        state, by, where, through, latency, swallowed, *_ = rows["swallower"]
        check_equal((state, swallowed, through), ("finished", 1, None), "the swallowed cancel")
        check(where.endswith(f"cancels.c:{line_of('the second cancel')}"), where)
        check_equal(rows["forgiven"][1:6], (None, None, None, None, None), "a cancel that was taken back")
        check_equal(weftd.query("SELECT kind, task_id, detail FROM events WHERE kind = 'swallowed_cancel'"),
                    [("swallowed_cancel", rows["swallower"][7], rows["swallower"][1])], "the event")


@test("a live task says who cancelled it over the socket, and that it has heard and goes on")
def live():
    with Weftd(workload("cancels", program("tests/system/cancels"), "stay", restart="no")) as weftd:
        def stubborn():
            return [t for t in weftd.tasks("cancels") if t["name"] == "stubborn" and t["state"] in ("waiting", "cancelling")]
        task = wait_until(stubborn, "the stubborn task waits")[0]
        check_equal((task["cancelled_by"], task["cancel_age_ms"]), (None, None), "before the cancel")
        weftd.weftctl("tasks", "cancel", task["id"], "--reason", "enough")
        task = wait_until(lambda: [t for t in stubborn() if t["cancel_latency_ms"] is not None], "it has heard")[0]
        check(task["cancelled_by"].startswith(f"uid {os.getuid()} pid ") and task["cancelled_by"].endswith(": enough"), task["cancelled_by"])
        check_equal((task["cancelled_where"], task["cancelled_via_id"]), (None, None), "no line, and nobody between")
        shown = weftd.weftctl("tasks", "show", task["id"]).stdout
        check("and goes on" in shown, shown)
        text, by = wait_until(lambda: weftd.query("SELECT text, detail FROM events WHERE kind = 'swallowed_cancel' AND task_id = ?", task["id"]),
                              "an event says that it goes on")[0]
        check(re.fullmatch(r"goes on \d+\.\d s after a wait had returned -ECANCELED", text), text)
        check_equal(by, task["cancelled_by"], "who had cancelled it")
        weftd.wait_log(f"swallowed_cancel: {task['id']} 'stubborn': goes on ")
        os.kill(weftd.running("cancels"), 9)  # it would not end otherwise


@test("--where narrows live and past tasks down by several variables, and by no secret's value")
def where():
    with Weftd(workload("crasher", program("tests/system/crasher"), "wait", restart="no")) as weftd:
        pid = weftd.running("crasher")
        wait_until(lambda: len(weftd.json("tasks", "list", "--where", "request=1000", "--state", "waiting")) == 1, "the last task waits")
        check_equal([t["number"] for t in weftd.json("tasks", "list", "--where", "request=17")], [17], "one variable")
        check_equal(weftd.json("tasks", "list", "--where", "request=17", "--where", "request=18"), [], "two that exclude each other")
        check_equal([t["number"] for t in weftd.json("tasks", "list", "--where", "request=17", "--where", "request=17")], [17], "two that agree")
        for value in ("hunter2", "<redacted>"):
            check_equal(weftd.json("tasks", "list", "--where", f"token={value}"), [], f"a secret, by {value}")
        weftd.weftctl("tasks", "list", "--where", "request", status=2)
        os.kill(pid, 9)
        wait_until(lambda: weftd.json("history", "tasks", "--where", "request=17"), "the tasks are in the history")
        check_equal([t["number"] for t in weftd.json("history", "tasks", "--where", "request=17", "--where", "request=17")], [17], "past, two that agree")
        check_equal(weftd.json("history", "tasks", "--where", "request=17", "--where", "request=18"), [], "past, two that exclude each other")
        check_equal(weftd.json("history", "tasks", "--where", "token=<redacted>"), [], "past, a secret")


run()
