#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A service under weftd: a thousand connections, their contexts, their history; then it crashes."""

import os
import re
import signal
import socket

from harness import *

N = 1000
CONFIG = NAPS + workload("echo", program("weft-echo"), "--listen", "127.0.0.1:0")


def port(weftd, nth=0):
    """Of the nth echo that was started."""
    def found():
        ports = re.findall(r"echo: listening on 127\.0\.0\.1:(\d+)", read(weftd.log))
        return int(ports[nth]) if len(ports) > nth else None
    return wait_until(found, "echo says where it listens")


def connect(weftd, n, nth=0):
    """n connections, each of which has got back what it sent."""
    address = ("127.0.0.1", port(weftd, nth))
    connections = [socket.create_connection(address, timeout=DEADLINE) for _ in range(n)]
    for number, connection in enumerate(connections):
        connection.sendall(b"%d\n" % number)
    for number, connection in enumerate(connections):
        expected = b"%d\n" % number
        got = b""
        while len(got) < len(expected):
            data = connection.recv(100)
            check(data, f"connection {number} was closed")
            got += data
        check_equal(got, expected, f"echo on connection {number}")
    return connections


def name(connection):
    return "%s:%d" % connection.getsockname()


@test("a thousand connections are a thousand tasks, each with its peer, live and in the history")
def a_thousand():
    many_descriptors()
    with Weftd(CONFIG) as weftd:
        connections = connect(weftd, N)
        peers = {name(connection) for connection in connections}
        tasks = [t for t in weftd.tasks("echo") if t["coro"] == "serve"]
        check_equal(len(tasks), N, "tasks listed")
        for task in tasks[:: N // 10]:
            context = {v["var"]: v["value"] for v in weftd.json("context", "show", task["id"])}
            check(context.get("peer") in peers, f"context of {task['id']}: {context}")
        one = name(connections[N // 2])
        check_equal(len(weftd.json("tasks", "list", "-w", "echo", "--where", f"peer={one}")), 1, f"tasks with peer {one}")

        for connection in connections:
            connection.close()
        done = "SELECT count(*) FROM tasks WHERE workload = 'echo' AND coro = 'serve' AND state = 'finished'"
        wait_until(lambda: weftd.value(done) == N, "all are in the history")
        recorded = weftd.query("SELECT value FROM tasks JOIN context_vars USING (context_id) "
                               "WHERE workload = 'echo' AND coro = 'serve' AND var = 'peer'")
        check_equal(len(recorded), N, "recorded tasks with a peer")
        check_equal({value for value, in recorded}, peers, "recorded peers")
        check_equal(weftd.value("SELECT count(*) FROM tasks WHERE workload = 'echo' AND NOT wall_ms > 0"), 0, "wall_ms of 0")
        weftd.check_history()


@test("a worker that crashes is told apart, recorded with its tasks, and started again; the others go on")
def a_crash():
    # (a sanitizer would make an exit status of it; Valgrind loses it now and then)
    config = NAPS + workload("echo", plain("weft-echo"), "--listen", "127.0.0.1:0",
                             environment='{ "ASAN_OPTIONS=handle_segv=0", "TSAN_OPTIONS=handle_segv=0" }')
    with Weftd(config) as weftd:
        pid = weftd.running("echo")
        naps = weftd.running("naps")
        connections = connect(weftd, 5)
        os.kill(pid, signal.SIGSEGV)
        weftd.running("echo", but=pid)
        for connection in connections:
            connection.close()
        connect(weftd, 1, nth=1)[0].close()
        check_equal(weftd.workload("naps")["pid"], naps, "pid of the other workload")
        check(weftd.tasks("naps"), "the other workload has no tasks any more")

        wait_until(lambda: weftd.query("SELECT 1 FROM runs WHERE workload = 'echo' AND how = 'crashed'"), "the crash is in runs")
        check_equal(weftd.query("SELECT pid, signal FROM runs WHERE workload = 'echo' AND how = 'crashed'"), [(pid, 11)], "runs")
        alive_then = "SELECT count(*) FROM tasks WHERE workload = 'echo' AND coro = 'serve' AND state = 'crashed'"
        wait_until(lambda: weftd.value(alive_then) == 5, "the tasks alive at the crash are in the history")
        weftd.check_history()


def processor_time(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@test("echo waits when it is out of descriptors, and serves the connection once it has one")
def out_of_descriptors():
    config = workload("echo", "/bin/sh", "-c", f"ulimit -n 24; exec {plain('weft-echo')} --listen 127.0.0.1:0")
    with Weftd(config) as weftd:
        address = ("127.0.0.1", port(weftd))
        connections = [socket.create_connection(address, timeout=DEADLINE) for _ in range(40)]
        weftd.wait_log("socket.accept() out of system resource")
        pid = weftd.running("echo")
        before = processor_time(pid)
        lines = weftd.count_log("socket.accept() out of system resource")
        wait_until(lambda: weftd.count_log("socket.accept() out of system resource") > lines, "it is tried again")
        used = processor_time(pid) - before
        check(used < 0.3 * SCALE, f"waiting for a descriptor has taken {used:.2f} s of processor time")
        last = connections.pop()
        for connection in connections:
            connection.close()
        last.sendall(b"still there?")
        check_equal(last.recv(100), b"still there?", "echo on the connection that had to wait")
        last.close()


run()
