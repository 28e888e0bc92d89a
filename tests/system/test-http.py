#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The demo web service under weftd: each route by curl, a thousand requests and their contexts, and clients that mean no good."""

import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import threading
import uuid

from harness import *

N = 1000


def http(*arguments):
    return workload("http", program("weft-http-demo"), "--listen", "127.0.0.1:0", *arguments)


def port(weftd):
    def found():
        match = re.search(r"http-demo: listening on 127\.0\.0\.1:(\d+)", read(weftd.log))
        return match and int(match.group(1))
    return wait_until(found, "http-demo says where it listens")


def curl(weftd, path, *arguments):
    """Status, headers (names in lower case) and body."""
    result = subprocess.run(["curl", "-s", "-i", "-m", str(DEADLINE), *arguments, f"http://127.0.0.1:{port(weftd)}{path}"],
                            capture_output=True)
    check_equal(result.returncode, 0, f"exit status of curl {path}")
    head, _, body = result.stdout.decode().partition("\r\n\r\n")
    lines = head.splitlines()
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), body


def connect(weftd):
    return socket.create_connection(("127.0.0.1", port(weftd)), timeout=DEADLINE)


def answer(connection):
    """The first line of what comes, or "" if nothing does."""
    try:
        data = b""
        while b"\r\n" not in data:
            piece = connection.recv(4096)
            if not piece:
                break
            data += piece
        return data.split(b"\r\n")[0].decode()
    except ConnectionResetError:
        return "reset"


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()


def invalid(name, message, kind):
    return {"detail": [{"loc": ["query", name], "msg": message, "type": kind}]}


@test("curl shows each route as it is described, errors included")
def routes():
    with Weftd(http()) as weftd:
        status, headers, body = curl(weftd, "/?num=1")
        check_equal((status, headers["content-type"], body), (200, "application/json", '{"message":"Hello World"}'), "GET /?num=1")
        for path, problem in (("/", invalid("num", "field required", "value_error.missing")),
                              ("/?num=one", invalid("num", "value is not a valid integer", "type_error.integer"))):
            status, headers, body = curl(weftd, path)
            check_equal((status, json.loads(body)), (422, problem), f"GET {path}")
        check_equal(curl(weftd, "/nowhere")[::2], (404, '{"detail":"Not Found"}'), "GET /nowhere")
        status, headers, _ = curl(weftd, "/login", "-X", "DELETE")
        check_equal((status, headers["allow"]), (405, "get, head, post, options"), "DELETE /login")
        status, headers, body = curl(weftd, "/?num=1", "--head")
        check_equal((status, headers["content-length"], body), (200, "25", ""), "HEAD /?num=1")
        check_equal(curl(weftd, "/login", "-X", "OPTIONS")[0], 204, "OPTIONS /login")

        status, headers, body = curl(weftd, "/login")
        check_equal((status, headers["content-type"]), (200, "text/html; charset=utf-8"), "GET /login")
        check('<form method="post">' in body and 'name="username"' in body, f"the form: {body}")
        for form in ("username=anna&password=wrong", "username=anna", ""):
            check("Invalid username/password" in curl(weftd, "/login", "-d", form)[2], f"POST /login {form}")
        check("Hello, &lt;b&gt;anna&lt;/b&gt;!" in curl(weftd, "/login", "-d", "username=<b>anna</b>&password=secret")[2], "the greeting")

        check_equal(curl(weftd, "/slow?ms=10")[::2], (200, '{"slept_ms":10}'), "GET /slow")
        check_equal(curl(weftd, "/block?ms=10")[::2], (200, '{"blocked_ms":10}'), "GET /block")
        check_equal(curl(weftd, "/stream?n=3")[2].splitlines(), ["line 1 of 3", "line 2 of 3", "line 3 of 3"], "GET /stream")


def ask_all(weftd, paths):
    """All of them at a time, each on a connection of its own; their answers."""
    connections = [connect(weftd) for _ in paths]
    for connection, path in zip(connections, paths):
        connection.sendall(get(path))
    answers = [answer(connection) for connection in connections]
    for connection in connections:
        connection.close()
    return answers


@test("a thousand requests at a time never see each other's context, which each takes to the history")
def a_thousand():
    many_descriptors()
    with Weftd(http()) as weftd:
        # (the handler sleeps and then looks at its context: 500 if it were another's)
        answers = ask_all(weftd, [f"/slow?ms=200&num={i}" for i in range(N)])
        check_equal(set(answers), {"HTTP/1.1 200 OK"}, "answers")
        done = "SELECT count(*) FROM tasks WHERE workload = 'http' AND coro = 'slow' AND state = 'finished'"
        wait_until(lambda: weftd.value(done) == N, "all are in the history")
        rows = weftd.query("SELECT id, var, value FROM tasks JOIN context_vars USING (context_id) WHERE workload = 'http' AND coro = 'slow'")
        tasks = {}
        for task, var, value in rows:
            tasks.setdefault(task, {})[var] = value
        check_equal(len(tasks), N, "tasks with contexts")
        check_equal({task["request"] for task in tasks.values()}, {"GET /slow"}, "their requests")
        check_equal({task["request_uri"] for task in tasks.values()}, {f"/slow?ms=200&num={i}" for i in range(N)}, "their URIs")
        check_equal(len({uuid.UUID(task["session"]) for task in tasks.values()}), N, "their sessions")
        check_equal(len({task["trace_id"] for task in tasks.values()}), N, "their traces")
        check_equal(weftd.value("SELECT count(*) FROM tasks JOIN context_vars ON context_vars.context_id = end_context_id "
                                "WHERE workload = 'http' AND coro = 'slow'"), 0, "variables left at the end")

        session = next(iter(tasks.values()))["session"]
        wanted = [id for id, task in tasks.items() if task["session"] == session]
        found = weftd.json("history", "tasks", "-w", "http", "--where", f"session={session}")
        check_equal([task["id"] for task in found], wanted, "the task that --where session=… finds")
        check(found[0]["wall_ms"] >= 200 and found[0]["idle_ms"] > 0 and found[0]["steps"] >= 2, f"its timings: {found[0]}")
        weftd.check_history()


@test("a request that runs is found by its request, and its client's trace")
def live():
    with Weftd(http()) as weftd:
        trace = "0af7651916cd43dd8448eb211c80319c"
        connection = connect(weftd)
        connection.sendall(f"GET /slow?ms=60000 HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01\r\n\r\n".encode())
        tasks = wait_until(lambda: weftd.json("tasks", "list", "-w", "http", "--where", "request=GET /slow", which=plain), "the task is listed")
        check_equal([task["coro"] for task in tasks], ["slow"], "tasks with that request")
        context = {v["var"]: v["value"] for v in weftd.json("context", "show", tasks[0]["id"])}
        check_equal((context["request"], context["trace_id"]), ("GET /slow", trace), "its context")
        # The client goes: the task is cancelled, its context reset.
        connection.close()
        row = "SELECT state, cancelled_by FROM tasks WHERE coro = 'slow'"
        state, by = wait_until(lambda: weftd.query(row), "the task has ended")[0]
        check_equal(state, "cancelled", "its state")
        check("the client has gone" in by, f"who cancelled it: {by}")
        check_equal(weftd.value("SELECT count(*) FROM tasks JOIN context_vars ON context_vars.context_id = end_context_id "
                                "WHERE coro = 'slow'"), 0, "variables left at its end")


@test("an operator's cancel of a request's task is a 503 to its client")
def cancelled():
    with Weftd(http()) as weftd:
        connection = connect(weftd)
        connection.sendall(get("/slow?ms=60000"))
        task = wait_until(lambda: weftd.json("tasks", "list", "-w", "http", "--coro", "slow", which=plain), "the task is listed")[0]
        weftd.weftctl("tasks", "cancel", task["id"], "--reason", "too slow")
        check_equal(answer(connection), "HTTP/1.1 503 Service Unavailable", "answer")
        connection.close()


def read_until(stream, *texts):
    """Lines, until all of these have been in one of them."""
    seen = []
    while not all(any(text in line for line in seen) for text in texts):
        ready, _, _ = select.select([stream], [], [], DEADLINE)
        line = os.read(stream.fileno(), 1 << 16).decode() if ready else ""
        check(line, f"no {texts} among the events: {seen}")
        seen += line.splitlines()
    return seen


@test("while a request blocks the loop, the events tell which one, and where; who had to wait is told by its scheduled time")
def blocking():
    with Weftd(http()) as weftd:
        curl(weftd, "/?num=1")
        follower = subprocess.Popen([program("weftctl"), "-s", weftd.socket, "events", "--follow", "-w", "http"], stdout=subprocess.PIPE)
        try:
            read_until(follower.stdout, "start")  # it follows
            waiting, blocker, known = connect(weftd), connect(weftd), connect(weftd)
            known.sendall(b"GET /?num=1 HTTP/1.1\r\nHost: a\r\n\r\n")
            data = b""
            while not data.endswith(b'"Hello World"}'):
                data += known.recv(4096) or check(False, f"the connection that is to be kept ends after {data}")
            waiting.sendall(get("/slow?ms=1000"))  # (not 100: that it sleeps is to be seen before the block begins)
            wait_until(lambda: weftd.json("tasks", "list", "-w", "http", "--coro", "slow", which=plain), "the request sleeps")
            blocker.sendall(get("/block?ms=3000"))
            # (a sanitized program's frames are its sanitizer's)
            read_until(follower.stdout, "blocked", "request = GET /block", *([] if SANITIZED else ["in nanosleep() called by block() at "]))
            # Requests that arrive meanwhile: four on connections of their own, one on a connection that is there.
            late = [known] + [connect(weftd) for _ in range(4)]
            for connection in late:
                connection.sendall(get("/?num=2"))
            check(not select.select([blocker], [], [], 0)[0], "the block was over before all had arrived")
            check_equal(answer(blocker), "HTTP/1.1 200 OK", "GET /block")
            check_equal({answer(connection) for connection in [waiting] + late}, {"HTTP/1.1 200 OK"}, "the answers that were late")
            for connection in [waiting, blocker] + late:
                connection.close()
        finally:
            follower.kill()
            follower.wait()
            follower.stdout.close()
        scheduled = wait_until(lambda: weftd.query("SELECT scheduled_ms FROM tasks WHERE coro = 'slow'"), "it is in the history")[0][0]
        check(scheduled >= 1800 or SANITIZED, f"scheduled for {scheduled} ms")
        row = "SELECT context_id, wakes_delayed, worst_lag_ms, took_ms FROM slow_steps WHERE coro = 'block'"
        context, delayed, lag, took = wait_until(lambda: weftd.query(row), "the slow step is recorded")[0]
        check_equal(weftd.query("SELECT value FROM context_vars WHERE context_id = ? AND var = 'request'", context), [("GET /block",)], "whose it was")
        # (the sleeper, and the requests: at the most they have waited for all of it)
        check(delayed >= (5 if SANITIZED else 6), f"{delayed} wakes delayed")
        check_equal(lag, took, "the worst lag")


@test("bad clients get what they are due, and others are served meanwhile")
def bad_clients():
    many_descriptors()
    config = http("--read-timeout", "1", "--connections", "3000")
    with Weftd(config) as weftd:
        slow = [connect(weftd) for _ in range(50)]  # a byte now and then
        for connection in slow:
            connection.sendall(b"GET /?num=1 HTTP/1.1\r\nX: ")
        idle = [connect(weftd) for _ in range(N)]  # that never say anything
        chunks = connect(weftd)
        chunks.sendall(b"POST /login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n")
        check_equal(answer(chunks), "HTTP/1.1 400 Bad Request", "garbage for chunks")

        for start, status in ((b"GET /", "414 URI Too Long"), (b"GET / HTTP/1.1\r\nX: ", "431 Request Header Fields Too Large"),
                              (b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n", "413 Content Too Large")):
            big = connect(weftd)
            sender = threading.Thread(target=send_much, args=(big, start))
            sender.start()
            check_equal(answer(big), f"HTTP/1.1 {status}", f"100 MB behind {start}")
            big.close()
            sender.join()
        check_equal(curl(weftd, "/?num=1")[0], 200, "another client meanwhile")
        check_equal({answer(connection) for connection in slow}, {"HTTP/1.1 408 Request Timeout"}, "answers to slow clients")

        pipelined = connect(weftd)
        pipelined.sendall(b"GET /?num=1 HTTP/1.1\r\nHost: a\r\n\r\n" * 100 + get("/?num=2"))
        data = b""
        while piece := pipelined.recv(65536):
            data += piece
        check_equal(data.count(b"HTTP/1.1 200 OK"), 101, "answers to pipelined requests")
        for connection in slow + idle + [chunks, pipelined]:
            connection.close()


def send_much(connection, start):
    piece = b"a" * (1 << 20)
    try:
        connection.sendall(start)
        for _ in range(100):
            connection.sendall(piece)
    except OSError:
        pass


@test("ten thousand connections are held and served; the one too many takes the place of the one that is idle longest")
def ten_thousand():
    n = 10000  # the default limit
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < n + 200:
        raise Skip(f"{hard} descriptors are all that a process may have here")
    many_descriptors()
    with Weftd(http()) as weftd:
        connections = [connect(weftd) for _ in range(n)]
        descriptors = f"/proc/{weftd.running('http')}/fd"
        wait_until(lambda: len(os.listdir(descriptors)) >= n, "the service has them all")
        check(not select.select(connections[:1], [], [], 0)[0], "the first one was closed before the limit")
        check_equal(curl(weftd, "/?num=1")[0], 200, "the client that is one too many")
        check_equal(connections[0].recv(1), b"", "what the one gets that is idle longest")
        for connection in connections[1:]:
            connection.sendall(b"GET /?num=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        check_equal({answer(connection) for connection in connections[1:]}, {"HTTP/1.1 200 OK"}, "answers to the others")
        check_equal(curl(weftd, "/slow?ms=1")[0], 200, "one more")
        for connection in connections:
            connection.close()


@test("out of descriptors it makes room at the cost of who is idle, and serves")
def out_of_descriptors():
    if WRAPPER:
        raise Skip("of thirty descriptors Valgrind wants twelve for itself")
    config = workload("http", "/bin/sh", "-c", f"ulimit -n 30; exec {program('weft-http-demo')} --listen 127.0.0.1:0")
    with Weftd(config) as weftd:
        idle = [connect(weftd) for _ in range(30)]
        check_equal(curl(weftd, "/?num=1")[0], 200, "a client behind thirty")
        # More who ask than there are descriptors: nobody is turned away, those behind wait.
        check_equal(ask_all(weftd, ["/slow?ms=50"] * 25), ["HTTP/1.1 200 OK"] * 25, "answers")
        for connection in idle:
            connection.close()


@test("it ends what runs when it is to end, and takes no more")
def graceful():
    with Weftd(http()) as weftd:
        connection = connect(weftd)
        connection.sendall(get(f"/slow?ms={3000 if WRAPPER else 1000}"))
        wait_until(lambda: weftd.json("tasks", "list", "-w", "http", "--coro", "slow", which=plain), "the request runs")
        os.kill(weftd.running("http"), signal.SIGTERM)
        check_equal(answer(connection), "HTTP/1.1 200 OK", "the answer after SIGTERM")
        connection.close()
        wait_until(lambda: weftd.query("SELECT 1 FROM runs WHERE how = 'exited' AND exit_code = 0"), "it has ended with 0")


@test("it ends what runs, too, when weftd is killed: a signal comes from each of weftd's threads, and is one")
def orphaned():
    for _ in range(5):
        with Weftd(http()) as weftd:
            connection = connect(weftd)
            connection.sendall(get(f"/slow?ms={3000 if WRAPPER else 500}"))
            wait_until(lambda: weftd.json("tasks", "list", "-w", "http", "--coro", "slow", which=plain), "the request runs")
            weftd.kill()
            check_equal(answer(connection), "HTTP/1.1 200 OK", "the answer after weftd's death")
            connection.close()


run()
