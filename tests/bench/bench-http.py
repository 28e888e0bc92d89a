#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Requests per second of the demo service under weftd, everything on, against evhttp alone and FastAPI under uvicorn.

The server on one core, load and weftd on another. Prints lines of: name value unit ratio against. Needs wrk, and for the second
half python3-fastapi, python3-uvicorn and python3-uvloop; says which are missing, installs nothing.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
os.environ.setdefault("WEFT_TEST_RUN", str(os.getpid()))
from harness import Weftd, program, read, wait_until, workload  # noqa: E402

SECONDS = int(os.environ.get("BENCH_SECONDS", "3"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
CORES = sorted(os.sched_getaffinity(0))
SERVER = str(CORES[0])
PATH = "/?num=1"

APPLICATION = '''
from contextvars import ContextVar
from uuid import uuid4
from fastapi import FastAPI, Request

app = FastAPI()
request_ctx = ContextVar("request")
session_ctx = ContextVar("session")


@app.middleware("http")
async def with_context(request: Request, call_next):
    request_token = request_ctx.set(request)
    session_token = session_ctx.set(str(uuid4()))
    response = await call_next(request)
    session_ctx.reset(session_token)
    request_ctx.reset(request_token)
    return response


@app.get("/")
async def root(num: int):
    assert request_ctx.get() and session_ctx.get()
    return {"message": "Hello World"}
'''


def line(name, value, unit, ratio, against):
    print(f"{name:<22} {value:>10.2f} {unit:<12} {ratio:>7.2f} {against}", flush=True)


def wrk(port, seconds=SECONDS):
    """Requests per second, and the 99th percentile of latency in ms."""
    said = subprocess.run(["wrk", "-t1", "-c64", f"-d{seconds}", "--latency", f"http://127.0.0.1:{port}{PATH}"],
                          check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        raise SystemExit(f"bench-http: not all replies were 200:\n{said}")
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", said).groups()
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1)), float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


class Server:
    """A server on its own core; its port is what it says."""

    def __init__(self, command, pattern, environment=None, directory=None):
        self.log = tempfile.NamedTemporaryFile(prefix="weft-bench-")
        self.process = subprocess.Popen(["taskset", "-c", SERVER, *command], stdout=self.log, stderr=self.log, cwd=directory,
                                        env={**os.environ, **(environment or {})})
        try:
            found = wait_until(lambda: re.search(pattern, read(self.log.name)), f"{command[0]} says where it listens", 30)
        except Exception:
            self.stop()
            raise SystemExit(f"bench-http: {' '.join(command)} does not start:\n{read(self.log.name)}") from None
        self.port = int(found.group(1))

    def stop(self):
        self.process.terminate()
        self.process.wait()


def compare(*ports):
    """Each in turn, several times, so that a machine that is not quiet is so for all of them: medians."""
    results = [[] for _ in ports]
    for _ in range(ROUNDS):
        for port, result in zip(ports, results):
            result.append(wrk(port))
    return [tuple(statistics.median(values) for values in zip(*result)) for result in results]


def demo(debug):
    config = workload("http", "taskset", "-c", SERVER, program("weft-http-demo"), "--listen", "127.0.0.1:0", debug="on" if debug else "off")
    return Weftd(config, env={"PATH": os.environ["PATH"]})


def demo_port(weftd):
    return int(wait_until(lambda: re.search(r"http-demo: listening on 127\.0\.0\.1:(\d+)", read(weftd.log)), "the demo listens", 30).group(1))


def check_recorded(weftd, n):
    """Every request is in the history."""
    count = "SELECT count(*) FROM tasks WHERE workload = 'http' AND coro = 'root'"
    recorded = [0]

    def settled():
        before, recorded[0] = recorded[0], weftd.value(count)
        return recorded[0] == before and before > 0
    wait_until(settled, "the recorder is through", 60, every=0.5)
    dropped = weftd.value("SELECT coalesce(sum(dropped), 0) FROM gaps")
    return recorded[0], dropped


def bench_evhttp():
    bare = Server([program("tests/bench/http-bare")], r"listening on 127\.0\.0\.1:(\d+)")
    try:
        with demo(False) as weftd:
            port = demo_port(weftd)
            wrk(port, 1), wrk(bare.port, 1)
            (base, base_p99), (ours, p99) = compare(bare.port, port)
            line("http_requests", ours, "/s", ours / base, "a bare callback of evhttp")
            line("http_p99", p99, "ms", p99 / base_p99, "a bare callback of evhttp")
            recorded, dropped = check_recorded(weftd, ours)
            line("http_recorded", recorded, "requests", recorded / (recorded + dropped), "those that there were")
            return ours, p99
    finally:
        bare.stop()


def fastapi(directory, debug):
    return Server([sys.executable, "-m", "uvicorn", "application:app", "--port", "0", "--loop", "asyncio" if debug else "uvloop",
                   "--no-access-log"], r"running on http://127\.0\.0\.1:(\d+)", {"PYTHONASYNCIODEBUG": "1" if debug else ""}, directory)


def bench_fastapi(ours, p99):
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as directory:
        with open(os.path.join(directory, "application.py"), "w") as file:
            file.write(APPLICATION)
        server = fastapi(directory, False)
        try:
            wrk(server.port, 1)
            ((base, base_p99),) = compare(server.port)
        finally:
            server.stop()
        line("http_fastapi", ours, "/s", ours / base, "FastAPI under uvicorn and uvloop")
        line("http_fastapi_p99", p99, "ms", p99 / base_p99, "FastAPI under uvicorn and uvloop")
        server = fastapi(directory, True)
        try:
            wrk(server.port, 1)
            ((base, base_p99),) = compare(server.port)
        finally:
            server.stop()
    with demo(True) as weftd:
        port = demo_port(weftd)
        wrk(port, 1)
        ((ours, p99),) = compare(port)
        line("http_debug", ours, "/s", ours / base, "the same, debug mode on in both")
        line("http_debug_p99", p99, "ms", p99 / base_p99, "the same, debug mode on in both")


def has_module(name):
    return subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True).returncode == 0


def main():
    if not shutil.which("wrk") or not shutil.which("taskset"):
        raise SystemExit("bench-http: needs the packages wrk and util-linux")
    os.sched_setaffinity(0, {CORES[-1]})  # weftd inherits it
    ours, p99 = bench_evhttp()
    missing = [f"python3-{name}" for name in ("fastapi", "uvicorn", "uvloop") if not has_module(name)]
    if missing:
        print(f"bench-http: not compared with FastAPI: missing packages: {' '.join(missing)}", file=sys.stderr)
        return
    bench_fastapi(ours, p99)


main()
