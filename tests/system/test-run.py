#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""weftctl run: a program under a weftd of its own, as transparent as can be."""

import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile

from harness import *

need("weftctl", "weftd", "weft-naps", "docs/examples/blocking")

# Says what it got, one line a signal, until it is told to end by its standard input. (By a pipe: a signal that comes just
# before a read is seen by Python when that returns, which may be never.)
LISTENER = """
import os, select, signal, sys
got, pipe = 0, os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(pipe[1])
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: None)
print("ready", os.getpid(), os.getppid(), os.getpgrp(), flush=True)
while True:
    ready = select.select([0, pipe[0]], [], [])[0]
    if pipe[0] in ready:
        for number in os.read(pipe[0], 64):
            got += 1
            print("got", number, flush=True)
    elif os.read(0, 4096) in (b"end\\n", b""):
        break
sys.exit(40 + got)
"""


class Scratch:
    """A directory for weftctl's temporary files, which must be empty at the end."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="weft-", dir="/tmp")
        self.temporary = os.path.join(self.path, "t")
        os.mkdir(self.temporary)
        self.env = {**os.environ, "TMPDIR": self.temporary}
        self.env.pop("WEFT_DEBUG", None)
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                wait_until(lambda: not os.listdir(self.temporary), "weftctl run has removed its directory", every=0.01)
        finally:
            shutil.rmtree(self.path, ignore_errors=True)

    def run(self, *arguments, status=0, **options):
        result = subprocess.run([program("weftctl"), *arguments], capture_output=True, text=True, env=self.env, timeout=DEADLINE,
                                **options)
        check_equal(result.returncode, status, f"exit status of weftctl {arguments}, which says:\n{result.stdout}{result.stderr}\n")
        return result

    def start(self, *arguments, **options):
        return subprocess.Popen([program("weftctl"), "run", *arguments], env=self.env, text=True, bufsize=1,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def listener(self, **options):
        process = self.start("--", sys.executable, "-c", LISTENER, **options)
        words = process.stdout.readline().split()
        check_equal(words[:1], ["ready"], f"what the listener says, {process.poll()}")
        return process, int(words[1])

    def socket(self):
        return wait_until(lambda: [os.path.join(self.temporary, d, "control.sock") for d in os.listdir(self.temporary)
                                   if os.path.exists(os.path.join(self.temporary, d, "control.sock"))], "its socket")[0]


def finish(process, text="end\n"):
    out, err = process.communicate(text, timeout=DEADLINE)
    return out, err, process.returncode


@test("the program has weftctl's standard descriptors, working directory, environment and further descriptors")
def transparent():
    with Scratch() as scratch:
        read_end, write_end = os.pipe()
        os.write(write_end, b"from outside")
        os.close(write_end)
        code = (f"import os, sys; print(sys.stdin.read(), os.getcwd(), os.environ['MINE'], os.read({read_end}, 99).decode()); "
                "print('to stderr', file=sys.stderr)")
        scratch.env["MINE"] = "mine"
        result = scratch.run("run", "-q", "--", sys.executable, "-c", code, input="typed", cwd=scratch.path, pass_fds=[read_end])
        os.close(read_end)
        check_equal(result.stdout, f"typed {scratch.path} mine from outside\n", "stdout")
        check_equal(result.stderr, "to stderr\n", "stderr with --quiet")


@test("its exit status is passed on, a signal as 128 + its number, and what cannot be run is 127 or 126")
def statuses():
    with Scratch() as scratch:
        scratch.run("run", "sh", "-c", "exit 7", status=7)
        check("was ended by SIGSEGV" in scratch.run("run", "sh", "-c", "kill -SEGV $$", status=139).stderr, "the signal is named")
        scratch.run("run", "sh", "-c", "kill -KILL $$", status=137)
        missing = scratch.run("run", "-q", "no-such-program", status=127).stderr
        check_equal(len(missing.splitlines()), 1, f"lines on a program that is not there:\n{missing}")
        check("program 'no-such-program' is not found in PATH" in missing, missing)
        check("Permission denied" in scratch.run("run", "/etc/passwd", status=126).stderr, "it says why not")
        if not WRAPPER:  # (which has its own temporary files)
            scratch.env["TMPDIR"] = "/nonexistent"
            check("/nonexistent" in scratch.run("run", "true", status=125).stderr, "the directory is named")
            scratch.env["TMPDIR"] = scratch.temporary
        check("/proc/x/h.db" in scratch.run("run", "--history", "/proc/x/h.db", "true", status=125).stderr, "the history is named")
        scratch.run("run", status=2)
        scratch.run("-s", "/x", "run", "true", status=2)


@test("the program's own options are left to it")
def options_are_the_programs():
    with Scratch() as scratch:
        check_equal(scratch.run("run", "-q", "echo", "--json", "--history", "-q").stdout, "--json --history -q\n", "what echo got")


@test("at the end it says what was slow, and with --json so that programs can read it")
def summary():
    with Scratch() as scratch:
        err = scratch.run("run", program("docs/examples/blocking")).stderr
        check(re.search(r"^weftctl: 1 slow step, the longest 2\.\d+s: Task-1, main_coro \(.*blocking\.c:\d+\)$", err, re.M), err)
        quiet = scratch.run("run", program("docs/examples/ported/hello"))
        check_equal(len([line for line in quiet.stderr.splitlines() if line.startswith("weftctl: ")]), 1,
                    f"remarks where nothing is noteworthy (the socket only):\n{quiet.stderr}")
        told = json.loads(scratch.run("--json", "run", program("docs/examples/ported/gather")).stderr)
        check_equal((told["tasks"], told["failed"], told["exit_code"], told["signal"], told["uses_weft"], told["history"]),
                    (8, 2, 0, None, True, None), f"the summary {told}")


@test("a program without libweft is told so")
def without_libweft():
    with Scratch() as scratch:
        check("does not use weft" in scratch.run("run", "true").stderr, "it is said")
        check_equal(json.loads(scratch.run("run", "--json", "true").stderr)["uses_weft"], False, "uses_weft")


@test("--history keeps the runs, one after the other, with how each ended")
def history():
    with Scratch() as scratch:
        path = os.path.join(scratch.path, "kept.db")
        scratch.run("run", "--history", "kept.db", program("docs/examples/ported/hello"), cwd=scratch.path)
        err = scratch.run("run", "--history", path, program("docs/examples/ported/gather")).stderr
        check(f"its history is run 2 in {path}" in err, err)
        scratch.run("run", "--history", path, "sh", "-c", "exit 3", status=3)
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            check_equal(database.execute("SELECT run_id, workload, how, exit_code FROM runs ORDER BY run_id").fetchall(),
                        [(1, "hello", "exited", 0), (2, "gather", "exited", 0), (3, "sh", "exited", 3)], "runs")
            check_equal(database.execute("SELECT count(*) FROM tasks WHERE run_id = 2").fetchall(), [(8,)], "tasks of run 2")


@test("another weftctl can look inside, and switch debug mode on")
def attach():
    with Scratch() as scratch:
        process = scratch.start("--", program("weft-naps"), "--nap", "0.2")
        try:
            socket = scratch.socket()
            check(socket in process.stderr.readline(), "the socket is named")
            tasks = wait_until(lambda: [json.loads(line) for line in scratch.run("-s", socket, "tasks", "list", "--json").stdout.splitlines()],
                               "tasks are listed")
            check(tasks[0]["id"].startswith("weft-naps/") or tasks[0]["id"].startswith("lt-weft-naps/"), f"ids {tasks[0]['id']}")
            scratch.run("-s", socket, "set-debug", "on")
            workloads = [json.loads(line) for line in scratch.run("-s", socket, "workloads", "list", "--json").stdout.splitlines()]
            check_equal((len(workloads), workloads[0]["state"]), (1, "running"), "workloads")
        finally:
            process.send_signal(signal.SIGTERM)
            _, err, status = finish(process, None)
        check_equal(status, 0, f"exit status after SIGTERM; stderr:\n{err}\n")


@test("a signal sent to weftctl reaches the program once, and so does one to the process group")
def signals():
    with Scratch() as scratch:
        process, pid = scratch.listener(start_new_session=True)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            process.send_signal(number)
            check_equal(process.stdout.readline(), f"got {int(number)}\n", "what the program says of a signal to weftctl")
        for number in (signal.SIGTERM, signal.SIGINT):
            os.killpg(process.pid, number)
            check_equal(process.stdout.readline(), f"got {int(number)}\n", "what the program says of a signal to the group")
        process.send_signal(signal.SIGUSR1)  # behind whatever may have come twice
        check_equal(process.stdout.readline(), f"got {int(signal.SIGUSR1)}\n", "the next signal")
        out, err, status = finish(process)
        check_equal((out, status), ("", 47), f"the rest of the output, and the exit status (40 + 7 signals); stderr:\n{err}\n")


# What a shell does with a foreground job, in a terminal of its own: Ctrl-Z stops only where there is one.
SHELL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(job, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        break
    print("job stopped", flush=True)
    sys.stdin.readline()
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
print("job ended", os.waitstatus_to_exitcode(status), flush=True)
"""


def in_terminal(scratch, *command):
    """Starts it as the foreground job of a terminal. (the shell's pid, the terminal's other end)"""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(scratch.env)
        os.execv(sys.executable, [sys.executable, "-c", SHELL, program("weftctl"), *command])
    return pid, terminal


def read_until(terminal, text, seen=""):
    def more():
        nonlocal seen
        if text in seen:
            return True
        try:
            seen += os.read(terminal, 4096).decode(errors="replace")
        except OSError:
            pass
        return text in seen
    os.set_blocking(terminal, False)
    wait_until(more, f"the terminal shows {text!r}", every=0.01)
    return seen


@test("Ctrl-C on the terminal reaches the program once, Ctrl-Z stops it with weftctl, and both go on")
def terminal():
    with Scratch() as scratch:
        pid, fd = in_terminal(scratch, "run", "--", sys.executable, "-c", LISTENER)
        try:
            read_until(fd, "ready")
            os.write(fd, b"\x03")
            read_until(fd, "got 2")
            if not WRAPPER:  # (Valgrind does not stop)
                os.write(fd, b"\x1a")
                read_until(fd, "job stopped")
                os.write(fd, b"\n")
            os.write(fd, b"end\n")
            seen = read_until(fd, "job ended")
            os.waitpid(pid, 0)
            check("job ended 41" in seen, f"exit status (40 + 1 signal); the terminal:\n{seen}\n")
        finally:
            os.close(fd)


@test("a weftctl that is killed takes its program with it")
def killed():
    with Scratch() as scratch:
        process, pid = scratch.listener()
        process.kill()
        process.wait()
        check_equal(process.stdout.readline(), f"got {int(signal.SIGTERM)}\n", "the program is asked to end")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not processes(), "weftd has ended, too")
        shutil.rmtree(scratch.temporary)  # nobody is left to do it
        os.mkdir(scratch.temporary)


run()
