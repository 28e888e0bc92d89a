#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The stream of events: in the log, in the history, and to those who follow it."""

import subprocess

from harness import *

CONFIG = workload("naps", program("weft-naps"), "--nap", "0.2") + workload("once", "/bin/false", restart="no")


def follow(client, **parameters):
    client.send("io.weft.Control.Events", parameters, more=True)
    first = client.receive()["parameters"]
    check("from_ns" in first, f"the first reply says from when on nothing is missing: {first}")
    return first


@test("starts, exits and changes of debug mode are events of the history, with their run")
def the_history():
    with Weftd(CONFIG) as weftd:
        weftd.running("naps")
        weftd.weftctl("set-debug", "on", "-w", "naps", "--slow", "5s")
        weftd.weftctl("workloads", "restart", "naps")
        wait_until(lambda: weftd.value("SELECT count(*) FROM events WHERE kind = 'restart'"), "the restart is recorded")
        wait_until(lambda: weftd.value("SELECT count(*) FROM events WHERE workload = 'once'") == 2, "both ends of the process that only ended")
        rows = weftd.query("SELECT kind, text, run_id FROM events WHERE workload = 'naps' ORDER BY time_ns")
        check_equal([row[0] for row in rows], ["start", "debug", "exit", "restart"], "kinds of events")
        check("debug mode on, threshold 5000 ms, by uid" in rows[1][1], rows[1][1])
        runs = weftd.query("SELECT run_id FROM runs WHERE workload = 'naps' ORDER BY started")
        check_equal([rows[i][2] for i in (0, 2, 3)], [runs[0][0], runs[0][0], runs[1][0]], "runs of start, exit and restart")
        once = weftd.query("SELECT DISTINCT e.run_id, r.how FROM events AS e JOIN runs AS r USING (run_id) WHERE e.workload = 'once'")
        check_equal(len(once), 1, "runs of a process without a black box")
        shown = weftd.weftctl("events", "-w", "naps").stdout.splitlines()
        check_equal([line.split()[2] for line in shown], ["start", "debug", "exit", "restart"], "what weftctl shows")
        last = weftd.json("events", "--kind", "debug", "-n", "1")
        check_equal((last[0]["kind"], last[0]["workload"], last[0]["task_id"]), ("debug", "naps", None), "the last event of a kind, as JSON")
        check_equal(weftd.json("events", "--since", "2100-01-01"), [], "events of the future")
        weftd.weftctl("events", "--kind", "rubbish", status=2)
        weftd.weftctl("events", "--follow", "--db", weftd.database, status=2)


@test("a follower gets the past that it asks for once, then what happens, and can be many")
def following():
    with Weftd(CONFIG) as weftd:
        weftd.running("naps")
        wait_until(lambda: weftd.json("events", "-w", "once", "--kind", "exit"), "the exit is in the history")
        with Varlink(weftd.socket) as one, Varlink(weftd.socket) as two:
            check_equal(follow(one, recent=2, workload="once")["recent"], 2, "events of the past that follow")
            check_equal(follow(two, kind="debug")["recent"], 0, "events of the past, when none are asked for")
            past = [one.receive()["parameters"]["event"] for _ in range(2)]
            check_equal([e["kind"] for e in past], ["start", "exit"], "the past of one workload")
            weftd.weftctl("set-debug", "on", "-w", "naps")
            weftd.weftctl("set-debug", "off")
            got = [two.receive()["parameters"]["event"] for _ in range(2)]
            check_equal([(e["workload"], e["text"].split(",")[0]) for e in got], [("naps", "debug mode on"), (None, "debug mode off")],
                        "what a follower is sent")
        with Varlink(weftd.socket) as client:
            check_equal(client.call("io.weft.Control.Events")["error"], "org.varlink.service.ExpectedMore", "a call without more")
            client.send("io.weft.Control.Events", {"kind": "rubbish"}, more=True)
            check_equal(client.receive()["error"], "org.varlink.service.InvalidParameter", "an unknown kind")


@test("weftctl events --follow shows what the history has from before weftd's start, then what happens, each once")
def across_a_restart():
    with Weftd(CONFIG) as weftd:
        weftd.running("naps")
        wait_until(lambda: weftd.json("events", "-w", "once", "--kind", "exit"), "the exit is in the history")
        weftd.stop()
        weftd.start()
        weftd.running("naps")
        follower = subprocess.Popen([program("weftctl"), "-s", weftd.socket, "events", "--follow", "-n", "0", "-w", "naps"],
                                    stdout=subprocess.PIPE, text=True)
        try:
            kinds = [follower.stdout.readline().split()[2] for _ in range(3)]
            check_equal(kinds, ["start", "exit", "start"], "events of the run before and of this one")
            weftd.weftctl("set-debug", "on", "-w", "naps")
            check_equal(follower.stdout.readline().split()[2], "debug", "what happens then")
        finally:
            follower.kill()
            follower.wait()
            follower.stdout.close()


@test("a follower that does not read is told how many events it has missed, and holds up nobody")
def a_slow_follower():
    with Weftd(NAPS) as weftd:
        weftd.running("naps")
        with Varlink(weftd.socket) as slow, Varlink(weftd.socket) as busy:
            follow(slow, kind="debug")
            n = 0
            for _ in range(12000):
                busy.send("io.weft.Control.SetDebug", {"enabled": True, "workload": "naps"})
                n += 1
                if n % 100 == 0:
                    for _ in range(100):
                        check("parameters" in busy.receive(), "SetDebug is answered while a follower does not read")
            seen = dropped = 0
            while seen + dropped < n:
                reply = slow.receive()["parameters"]
                seen += "event" in reply
                dropped += reply.get("dropped", 0)
            check_equal(seen + dropped, n, "events seen and events said to be dropped")
            check(dropped > 0, "no event was dropped: the test has not filled the queue")


run()
