# SPDX-License-Identifier: MIT
"""What the system tests share: a real weftd in a directory of its own, the real weftctl, and TAP.

A test file calls test("a sentence") on each of its functions and ends in run(). Nothing here waits for a fixed time:
everything polls for what must come true, up to a deadline. A test fails when it leaves a process behind, or a sanitizer's report of
any process that it has started.
"""

import atexit
import contextlib
import ctypes
import functools
import glob
import json
import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback

BUILD = os.environ.get("builddir", os.getcwd())
SOURCE = os.environ.get("srcdir", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
WRAPPER = os.environ.get("WEFT_TEST_WRAPPER", "")  # what weftd, weftctl and the workers are run by: Valgrind
SANITIZED = bool(os.environ.get("WEFT_TEST_SANITIZERS") or WRAPPER)
# weftctl run has a weftd of its own, which is looked into, too; not what that starts, unless it is wrapped itself.
WRAPPED_CHILDREN = "--trace-children=yes --trace-children-skip=/usr/*,/bin/*,*/python*,*/crasher,*/weft-wrappers-*"
# Limits on time are limits for code as it ships; instrumented code gets more.
SCALE = 10 if SANITIZED else 1
DEADLINE = 20 * (3 if SANITIZED else 1)
LONGEST = 300 * (3 if SANITIZED else 1)  # a test that waits for something without a deadline
MARK = "WEFT_TEST_RUN"


class Skip(Exception):
    pass


class Failure(AssertionError):
    pass


@functools.cache
def wrappers():
    directory = tempfile.mkdtemp(prefix="weft-wrappers-", dir="/tmp")
    atexit.register(shutil.rmtree, directory)
    os.chmod(directory, 0o755)  # (not all that is started is ours)
    return directory


@functools.cache
def wrapped(name):
    """A script that runs a program by the wrapper: the program itself, which is in .libs where libtool has put a script in its place."""
    path = os.path.join(wrappers(), os.path.basename(name))
    real = os.path.join(BUILD, os.path.dirname(name), ".libs", os.path.basename(name))
    real = real if os.path.exists(real) else os.path.join(BUILD, name)
    with open(path, "w") as file:
        options = WRAPPED_CHILDREN if name == "weftctl" else ""
        file.write(f'#!/bin/sh\nLD_LIBRARY_PATH={BUILD}/.libs exec {WRAPPER} {options} {real} "$@"\n')
    os.chmod(path, 0o755)
    return path


def plain(name):
    """What is built, itself: for a worker whose limits, system calls or death are the point, which a wrapper would make its own."""
    return os.path.join(BUILD, name)


def program(name):
    """What is built; weftd, weftctl and programs that are workloads by the wrapper, if there is one."""
    if WRAPPER and (name in ("weftctl", "weftd") or name.startswith(("weft-", "docs/examples/", "tests/system/"))):
        return wrapped(name)
    return plain(name)


def check(condition, message):
    if not condition:
        raise Failure(message)


def check_equal(got, expected, what):
    check(got == expected, f"{what}: {got!r}, not {expected!r}")


def wait_until(condition, what, deadline=None, every=0.02):
    """The first true value of condition(), polled."""
    end = time.monotonic() + (deadline or DEADLINE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"after {deadline or DEADLINE} s still not: {what}")
        time.sleep(every)


def read(path):
    with open(path, errors="replace") as file:
        return file.read()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def box_offset(word):
    """Where in a black box file one of its words is."""
    lines = subprocess.run([program("tests/system/layout")], capture_output=True, text=True, check=True).stdout.split()
    return int(lines[lines.index(word) + 1])


class Varlink:
    """A client with nothing of weft's own code in it."""

    def __init__(self, path, timeout=None):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout or DEADLINE)
        self.socket.connect(path)
        self.buffer = b""

    def send(self, method, parameters=None, **flags):
        message = {"method": method, "parameters": parameters or {}, **flags}
        self.socket.sendall(json.dumps(message).encode() + b"\0")

    def receive(self):
        while b"\0" not in self.buffer:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, parameters=None):
        self.send(method, parameters)
        return self.receive()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Weftd:
    """A private weftd. `with Weftd(config) as weftd:` starts it, and at the end stops it in order and expects exit 0."""

    def __init__(self, config="", directory=None, arguments=(), env=None):
        self.own = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="weft-", dir="/tmp")
        self.runtime = os.path.join(self.directory, "run")
        self.state = os.path.join(self.directory, "state")
        self.config = os.path.join(self.directory, "weftd.conf")
        self.log = os.path.join(self.directory, "weftd.log")
        self.socket = os.path.join(self.runtime, "control.sock")
        self.database = os.path.join(self.state, "history.db")
        self.arguments = list(arguments)
        self.env = {**os.environ, **(env or {})}
        self.process = None
        self.ended = True
        self.configure(config)

    def configure(self, config):
        with open(self.config, "w") as file:
            file.write(config)

    def command(self):
        return [program("weftd"), "-c", self.config, "--runtime-dir", self.runtime, "--state-dir", self.state, *self.arguments]

    def launch(self):
        """Starts it and does not wait."""
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                                            start_new_session=True)
        self.ended = False
        return self.process

    def start(self):
        self.launch()
        wait_until(self.answers, "weftd answers on its socket")
        return self

    def answers(self):
        check(self.process.poll() is None, f"weftd has ended with {self.process.returncode}:\n{read(self.log)}")
        try:
            with Varlink(self.socket) as client:
                return "parameters" in client.call("org.varlink.service.GetInfo")
        except (FileNotFoundError, ConnectionRefusedError, EOFError):
            return False

    def run_to_end(self):
        """For a weftd that must not come up: its exit status and what it said."""
        result = subprocess.run(self.command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self.env,
                                timeout=DEADLINE)
        return result.returncode, result.stdout + result.stderr

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise Failure(f"weftd has not ended {DEADLINE} s after SIGTERM:\n{read(self.log)}") from None
        self.ended = True
        check_equal(status, 0, f"weftd's exit status after SIGTERM; its log:\n{read(self.log)}\n")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.ended = True

    def weftctl(self, *arguments, status=0, timeout=None, which=program):
        result = subprocess.run([which("weftctl"), "-s", self.socket, *arguments], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=timeout or DEADLINE)
        if status is not None:
            check_equal(result.returncode, status, f"exit status of weftctl {' '.join(arguments)}, which says:\n"
                        f"{result.stdout}{result.stderr}")
        return result

    def json(self, *arguments, which=program):
        return [json.loads(line) for line in self.weftctl(*arguments, "--json", which=which).stdout.splitlines()]

    # What is polled, by weftctl itself: started by Valgrind it takes half a second each time.
    def tasks(self, workload):
        return self.json("tasks", "list", "-w", workload, which=plain)

    def workload(self, name):
        return [w for w in self.json("workloads", "list", which=plain) if w["workload"] == name][0]

    def running(self, name, but=None):
        """The pid of a workload's worker that runs tasks, once there is one other than `but`."""
        def pid():
            workload = self.workload(name)
            if workload["state"] == "running" and workload["pid"] and workload["pid"] != but and self.tasks(name):
                return workload["pid"]
            return None
        return wait_until(pid, f"workload {name} runs; weftd's log:\n{read(self.log)}")

    def query(self, sql, *parameters):
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=DEADLINE)
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    def value(self, sql, *parameters):
        return self.query(sql, *parameters)[0][0]

    def log_has(self, text):
        return text in read(self.log)

    def count_log(self, text):
        return read(self.log).count(text)

    def wait_log(self, text):
        try:
            wait_until(lambda: self.log_has(text), "")
        except Failure:
            raise Failure(f"weftd's log has no '{text}':\n{read(self.log)}") from None

    def check_history(self):
        """What must hold of any history, whatever happened."""
        check_equal(self.value("PRAGMA integrity_check"), "ok", "integrity_check")
        check_equal(self.value("SELECT count(*) - count(DISTINCT run_id || ' ' || id) FROM tasks"), 0, "tasks recorded twice")
        check_equal(self.query("SELECT run_id, id, wall_ms, busy_ms, scheduled_ms, idle_ms FROM tasks "
                               "WHERE abs(wall_ms - busy_ms - scheduled_ms - idle_ms) >= 0.01 LIMIT 3"), [],
                    "tasks whose times do not add up")

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.clean()
            raise

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                if not self.ended:
                    self.stop()
            elif kind is not Skip:
                for line in read(self.log).splitlines()[-30:]:
                    print(f"# weftd: {line[:300]}")
        finally:
            self.clean()

    def clean(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for box in glob.glob(os.path.join(self.runtime, "*.blackbox")):
            target = os.path.realpath(box)
            if target.startswith("/dev/shm/weft-"):  # where it would take up memory until the next boot
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(target)
        if self.own:
            shutil.rmtree(self.directory, ignore_errors=True)


def workload(name, *command, **options):
    """A workload section of the configuration."""
    words = ", ".join('"' + str(word).replace("\\", "\\\\").replace('"', '\\"') + '"' for word in command)
    lines = "".join(f"        {key} = {value}\n" for key, value in options.items())
    return f"workload {name} {{\n        command = {{ {words} }}\n{lines}}}\n"


NAPS = workload("naps", program("weft-naps"), "--nap", 1 if WRAPPER else 0.2)


def clean_dead(pids):
    """Reaps what was left to us (we are the subreaper of all that we start)."""
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass


def processes():
    """Pids of all processes that carry our mark in their environment, ourselves left out."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if mark in file.read().split(b"\0") and alive(int(entry)):
                        found.append(int(entry))
            except OSError:
                pass
    return found


def kill_leftovers():
    """What a test has left running, after a moment to end; killed."""
    end = time.monotonic() + 2 * SCALE
    left = processes()
    while left and time.monotonic() < end:
        time.sleep(0.02)
        left = processes()
    names = []
    for pid in left:
        try:
            names.append(f"{pid} ({read(f'/proc/{pid}/comm').strip()})")
            os.kill(pid, signal.SIGKILL)
        except (OSError, ProcessLookupError):
            pass
    clean_dead(left)
    return names


def many_descriptors():
    """Room for thousands of connections; what we start inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Reports:
    """What sanitizers and Valgrind have to say of whatever is started goes into files, since who would look at a worker's stderr?"""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="weft-reports-", dir="/tmp")
        os.chmod(self.directory, 0o1777)  # (not all that is started is ours)
        for name in ("ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"):
            os.environ[name] = ":".join([*filter(None, [os.environ.get(name)]), f"log_path={self.directory}/report"])
        os.environ["VALGRIND_OPTS"] = f"--log-file={self.directory}/report.%p"

    def take(self):
        text = ""
        for name in sorted(os.listdir(self.directory)):
            path = os.path.join(self.directory, name)
            # (of system calls that it has not, Valgrind says so)
            text += "".join(line for line in open(path, errors="replace") if not re.match(r"--\d+-- ", line))
            os.unlink(path)
        return text

    def close(self):
        os.rmdir(self.directory)


TESTS = []


def test(sentence):
    def add(function):
        TESTS.append((sentence, function))
        return function
    return add


def need(*names):
    for name in names:
        if not os.access(program(name), os.X_OK):
            raise Failure(f"{program(name)} is not there")


def took_too_long(number, frame):
    raise Failure(f"after {LONGEST} s it has not ended:\n{''.join(traceback.format_stack(frame))}")


def run():
    signal.signal(signal.SIGALRM, took_too_long)
    os.environ[MARK] = f"{os.getpid()}.{time.time_ns()}"
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    only = sys.argv[1:]
    tests = [t for t in TESTS if not only or any(word in t[0] for word in only)]
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    reports = Reports() if SANITIZED else None
    for number, (sentence, function) in enumerate(tests, 1):
        started = time.monotonic()
        problem = skip = None
        try:
            signal.alarm(LONGEST)
            function()
        except Skip as reason:
            skip = str(reason)
        except Exception as error:  # whatever it is, the next test still runs
            problem = str(error) if isinstance(error, Failure) else traceback.format_exc()
        signal.alarm(0)
        left = kill_leftovers()
        if left and not problem:
            problem = f"processes were left running: {', '.join(left)}"
        report = reports.take() if reports else ""
        if report:
            problem = f"{problem}\n{report}" if problem else report
        verdict = "not ok" if problem else "ok"
        print(f"{verdict} {number} - {sentence}" + (f" # SKIP {skip}" if skip else ""))
        if problem:
            failed += 1
            for line in problem.splitlines():
                print(f"#   {line}")
        print(f"# {time.monotonic() - started:.1f} s", flush=True)
    if reports:
        reports.close()
    sys.exit(1 if failed else 0)
