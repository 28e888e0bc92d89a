#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""weftctl where things go wrong: wrong usage, nobody or something else on the socket, output that cannot be written.

No weftd is needed: what answers is a few lines of Python that say what a weftd never would.
"""

import fcntl
import pty
import re
import signal
import struct
import termios
import threading

from harness import *

LONG_LIST = 200000


def ctl(*arguments, status, env=None, stdout=subprocess.PIPE):
    """weftctl's stdout; stderr must be one line that begins with its name, or nothing where all is well."""
    result = subprocess.run([program("weftctl"), *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
                            text=True, errors="replace", timeout=DEADLINE, env={**os.environ, **(env or {})})
    what = f"weftctl {' '.join(arguments)}"
    check_equal(result.returncode, status, f"exit status of {what}, which says:\n{result.stdout}{result.stderr}")
    lines = result.stderr.splitlines()
    if status:
        check_equal(len(lines), 1, f"lines on stderr of {what}: {result.stderr!r}")
        check(lines[0].startswith("weftctl: "), f"stderr of {what}: {lines[0]!r}")
    return result.stdout, result.stderr


class Peer:
    """Accepts on a socket in a directory of its own, and gives each connection to a function."""

    def __init__(self, serve):
        self.serve = serve
        self.directory = tempfile.mkdtemp(prefix="weft-", dir="/tmp")
        self.path = os.path.join(self.directory, "control.sock")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen(8)

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                try:
                    self.serve(connection)
                except OSError:
                    pass

    def __enter__(self):
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self.path

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(DEADLINE)
        shutil.rmtree(self.directory)


def request(connection):
    data = b""
    while b"\0" not in data:
        part = connection.recv(65536)
        if not part:
            raise OSError("closed")
        data += part
    return json.loads(data[:data.index(b"\0")])


def answers(*replies):
    """A peer that reads one request and answers with these bytes."""
    def serve(connection):
        request(connection)
        for reply in replies:
            connection.sendall(reply)
    return serve


def task(number):
    return {"id": f"naps/{number}", "number": number, "workload": "naps", "instance": 1, "loop": 1, "name": f"Task-{number}", "coro": "nap",
            "state": "waiting", "wall_ms": 1.5, "busy_ms": 0.5, "scheduled_ms": 0.25, "idle_ms": 0.75, "steps": number % 7,
            "max_step_ms": 0.1, "waiting_for": None}


def task_list(n, first=1):
    return b"".join(json.dumps({"parameters": {"task": task(i)}, "continues": i < first + n - 1}).encode() + b"\0"
                    for i in range(first, first + n))


@test("wrong usage ends with 2 and a line that says what is right")
def usage():
    for arguments, word in (
            ([], "status"), (["nonsense"], "status"), (["tasks"], "list"), (["tasks", "nonsense"], "list"), (["--nonsense"], "--help"),
            (["tasks", "list", "--nonsense"], "tasks list --help"), (["tasks", "list", "-x"], "-x"), (["tasks", "list", "extra"], "extra"),
            (["tasks", "show"], "ID"), (["tasks", "show", "a/1", "b/2"], "b/2"), (["tasks", "show", "42"], "WORKLOAD"),
            (["tasks", "cancel", "http/x"], "http/42"), (["context", "show", "/1"], "WORKLOAD"), (["tasks", "list", "--state", "lazy"], "waiting"),
            (["tasks", "list", "--sort", "colour"], "busy"), (["tasks", "list", "--where", "peer"], "VAR=VALUE"),
            (["tasks", "list", "-n", "many"], "whole number"), (["tasks", "list", "-n", "99999999999999999999"], "too large"),
            (["tasks", "list", "-n"], "N"), (["tasks", "list", "--watch=never"], "seconds"), (["tasks", "list", "--watch=0"], "100ms"),
            (["tasks", "list", "--json=yes"], "no value"), (["set-debug"], "on|off"), (["set-debug", "maybe"], "on, off"),
            (["set-debug", "on", "--slow", "100"], "100ms"), (["set-debug", "on", "--slow", "0"], "over 0"),
            (["history", "tasks", "--since", "yesterday"], "1h"), (["history", "tasks", "--until", "2026-02-30"], "2026-05-01"),
            (["history", "tasks", "--state", "running"], "crashed"), (["history", "tasks", "--json", "--csv"], "exclude"),
            (["history", "sql"], "SELECT"), (["-s", "x" * 200, "status"], "107"), (["history", "runs", "--db", ""], "--db")):
        _, error = ctl(*arguments, status=2)
        check(word in error, f"'{word}' is not in what weftctl {arguments} says: {error!r}")


@test("--help and --version answer at every level, without a daemon")
def help_():
    nowhere = {"WEFT_SOCKET": "/nonexistent/control.sock"}
    check(ctl("--version", status=0)[0].startswith("weftctl "), "--version")
    everything, _ = ctl("--help", status=0, env=nowhere)
    commands = [line.split("  ")[1] for line in everything.split("Commands:\n")[1].split("\n\n")[0].splitlines()]
    check(len(commands) >= 15, f"commands in --help: {commands}")
    for command in commands:
        words = [word for word in command.split() if word.islower() and "|" not in word and "'" not in word]
        for arguments in ([*words, "--help"], ["--help", *words], [*words, "-h"]):
            text, _ = ctl(*arguments, status=0, env=nowhere)
            check(text.startswith("Usage: weftctl ") and " ".join(words) in text, f"{arguments}: {text!r}")
    for command in ("tasks tree", "tasks stack", "events", "history crash", "run "):
        check(f"  {command}" in everything, f"--help does not show '{command}'")
    check("list" in ctl("tasks", "--help", status=0)[0], "help of a group")


@test("nobody on the socket ends with 3, and the line names the socket and -s")
def nobody():
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as directory:
        path = os.path.join(directory, "control.sock")
        for arguments in (["status"], ["tasks", "list"], ["tasks", "list", "--json"], ["tasks", "list", "--watch"], ["set-debug", "on"],
                          ["workloads", "stop", "x"], ["history", "tasks"], ["history", "sql", "SELECT 1"]):
            _, error = ctl("-s", path, *arguments, status=3)
            check(path in error and "-s" in error, f"{arguments}: {error!r}")
            ctl(*arguments, status=3, env={"WEFT_SOCKET": path})
        left_over = socket.socket(socket.AF_UNIX)
        left_over.bind(path)
        left_over.close()
        ctl("-s", path, "status", status=3)
        ctl("-s", os.path.join(path, "below"), "status", status=3)
        with open(os.path.join(directory, "file"), "w"):
            ctl("-s", os.path.join(directory, "file"), "status", status=3)


@test("a history that is not there ends with 5, one that cannot be read with 1, and each line names the file")
def no_history():
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as directory:
        path = os.path.join(directory, "history.db")
        for command in (["tasks"], ["slow"], ["runs"], ["summary"], ["sql", "SELECT 1"]):
            check(path in ctl("history", *command, "--db", path, status=5)[1], f"the path is not named by history {command}")
        with open(path, "wb") as file:
            file.write(b"no database " * 1000)
        error = ctl("history", "tasks", "--db", path, status=1)[1]
        check(path in error and "from a copy" in error, f"the path, or what to do, is not named: {error!r}")
        os.truncate(path, 0)
        check(path in ctl("history", "tasks", "--db", path, status=1)[1], "the path is not named")
        os.unlink(path)
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE other (x)")
        connection.commit()
        check("weft" in ctl("history", "tasks", "--db", path, status=1)[1], "another program's database")
        connection.execute("PRAGMA application_id = 0x77656674")
        connection.execute("PRAGMA user_version = 99")
        connection.commit()
        connection.close()
        check("newer" in ctl("history", "tasks", "--db", path, status=1)[1], "a newer history")


@test("what weftd refuses becomes an exit code and a line")
def refused():
    error = b'{"error":"%s","parameters":%s}\0'
    for name, parameters, status, word in (
            (b"io.weft.Control.NoSuchTask", b'{"id":"naps/7"}', 5, "naps/7"), (b"io.weft.Control.NoSuchWorkload", b'{"name":"x"}', 5, "'x'"),
            (b"org.varlink.service.PermissionDenied", b"{}", 4, "group"), (b"org.varlink.service.InvalidParameter", b'{"parameter":"id"}', 2, "'id'"),
            (b"org.varlink.service.MethodNotFound", b"{}", 1, "older"), (b"io.weft.Control.Busy", b'{"reason":"ring full"}', 1, "ring full"),
            (b"io.weft.Control.TooMany", b'{"limit":1000}', 1, "1000"), (b"some.thing.Else", b"null", 1, "some.thing.Else")):
        with Peer(answers(error % (name, parameters))) as path:
            check(word in ctl("-s", path, "tasks", "show", "naps/7", status=status)[1], f"'{word}' is not in what it says to {name}")


@test("a peer that is no weftd is said to be none, whatever it sends")
def garbage():
    for serve, word in ((answers(b"220 mail ready\r\n\0"), "not JSON"), (answers(b"[1,2]\0"), "not JSON"), (answers(b'{"parameters":\xff}\0'), "not JSON"),
                        (answers(b'{"parameters":{"task"'), "in the middle"), (answers(), "without"), (answers(b"\0"), "not JSON")):
        for command in (["status"], ["tasks", "list"], ["tasks", "list", "--json"]):
            with Peer(serve) as path:
                check(word in ctl("-s", path, *command, status=1)[1], f"'{word}' is not in what {command} says")
    with Peer(lambda connection: connection.close()) as path:
        ctl("-s", path, "status", status=1)


@test("an answer without its members is shown as far as it goes, and harms nothing")
def incomplete():
    with Peer(answers(b'{"parameters":{}}\0')) as path:
        for command in (["status"], ["tasks", "list"], ["workloads", "list"], ["context", "show", "a/1"]):
            ctl("-s", path, *command, status=0)
            ctl("-s", path, *command, "--json", status=0)
        ctl("-s", path, "tasks", "show", "a/1", status=1)
    with Peer(answers(b'{"parameters":{"task":{"id":7,"wall_ms":"x","state":null,"name":"\\u001b[2J"}}}\0')) as path:
        text, _ = ctl("-s", path, "tasks", "list", status=0)
        check("\033" not in text and "?[2J" in text, f"an escape sequence came through: {text!r}")


@test("a list is printed whole, in the peer's own words with --json, and sorted when asked")
def lists():
    with Peer(answers(task_list(3000))) as path:
        rows = ctl("-s", path, "tasks", "list", status=0)[0].splitlines()
        check_equal(len(rows), 3001, "lines of the table")
        check_equal(rows[0].split(), ["ID", "STATE", "NAME", "CORO", "AGE", "BUSY", "SCHED", "IDLE", "STEPS", "WAITING"], "heading")
        check_equal(rows[3000].split(), ["naps/3000", "waiting", "Task-3000", "nap", "1.5ms", "500us", "250us", "750us", "4", "-"], "last row")
        objects = [json.loads(line) for line in ctl("-s", path, "tasks", "list", "--json", status=0)[0].splitlines()]
        check_equal(objects, [task(i) for i in range(1, 3001)], "--json")
        steps = [json.loads(line) for line in ctl("-s", path, "tasks", "list", "--json", "--sort", "steps", "-n", "1000", status=0)[0].splitlines()]
        check_equal([(t["steps"], t["number"]) for t in steps], sorted(((i % 7, i) for i in range(1, 3001)), key=lambda k: (-k[0], k[1]))[:1000],
                    "--sort steps -n 1000")
        check_equal(len(ctl("-s", path, "tasks", "list", "-n", "7", status=0)[0].splitlines()), 8, "lines with -n 7")


@test("options reach weftd as the interface names them")
def parameters():
    seen = []

    def serve(connection):
        seen.append(request(connection))
        connection.sendall(b'{"parameters":{"loops":2}}\0')
    with Peer(serve) as path:
        ctl("-s", path, "tasks", "list", "-w", "http", "--state", "waiting", "--coro", "serve", "--where", "peer=a=b", status=0)
        ctl("-s", path, "set-debug", "on", "--slow", "1.5ms", status=0)
        ctl("-s", path, "tasks", "cancel", "http.3.2/42", "--reason", "\u00e9\n", status=0)
        ctl("-s", path, "workloads", "restart", "http", status=0)
        ctl("-s", path, "tasks", "cancel", "http/42", "--reason", b"\xff".decode(errors="surrogateescape"), status=1)
    check_equal(seen, [
        {"method": "io.weft.Control.ListTasks", "more": True,
         "parameters": {"workload": "http", "state": "waiting", "coro": "serve", "where": "peer=a=b"}},
        {"method": "io.weft.Control.SetDebug", "parameters": {"enabled": True, "slow_ms": 1.5}},
        {"method": "io.weft.Control.CancelTask", "parameters": {"id": "http.3.2/42", "reason": "\u00e9\n"}},
        {"method": "io.weft.Control.RestartWorkload", "parameters": {"name": "http"}}], "requests")


@test("a full disk ends with 1 and a line; a reader that has gone ends it without one, and without a signal")
def output():
    with Peer(answers(task_list(20000))) as path:
        for options in ([], ["--json"], ["--sort", "id"]):
            with open("/dev/full", "w") as full:
                check("No space" in ctl("-s", path, "tasks", "list", *options, status=1, stdout=full)[1], "what it says to a full disk")
            process = subprocess.Popen([program("weftctl"), "-s", path, "tasks", "list", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            process.stdout.read(10)
            process.stdout.close()
            check_equal(process.wait(DEADLINE), 1, "exit status after the reader has gone")
            check_equal(process.stderr.read(), b"", "stderr after the reader has gone")
            process.stderr.close()
        if WRAPPER:
            raise Skip("whether standard output is closed: Valgrind opens it")
        result = subprocess.run(f"exec '{program('weftctl')}' -s '{path}' tasks list >&-", shell=True, stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
        check_equal(result.returncode, 1, f"exit status where standard output is closed: {result.stderr!r}")


def watching(path, *options):
    """Starts --watch on a terminal; returns the process and the terminal's other end."""
    master, slave = pty.openpty()
    process = subprocess.Popen([program("weftctl"), "-s", path, "tasks", "list", *options], stdin=subprocess.DEVNULL, stdout=slave,
                               stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm"}, start_new_session=True)
    os.close(slave)
    return process, master


@test("--watch clears a terminal, fits it, and ends with 0 on Ctrl-C; elsewhere an empty line comes between")
def watch():
    with Peer(answers(task_list(500))) as path:
        process, master = watching(path, "--watch=0.1s")
        seen = b""
        while seen.count(b"\033[2J") < 3:
            seen += os.read(master, 65536)
        process.send_signal(signal.SIGINT)
        check_equal(process.wait(DEADLINE), 0, f"exit status after Ctrl-C: {process.stderr.read()}")
        process.stderr.close()
        os.close(master)
        screen = seen.split(b"\033[2J")[1]
        check(screen.count(b"\n") <= 24, f"more lines than the terminal has: {screen.count(10)}")

        process = subprocess.Popen([program("weftctl"), "-s", path, "tasks", "list", "-n", "2", "--watch=100ms"], stdout=subprocess.PIPE, text=True)
        lines = [process.stdout.readline() for _ in range(8)]
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        check_equal(process.wait(DEADLINE), 0, "exit status after SIGTERM")
        process.stdout.close()
        check_equal([line.split()[:1] for line in lines], [["ID"], ["naps/1"], ["naps/2"], []] * 2, "lines of two blocks")


def shown(master, columns):
    """The lines of a whole screen that is this many characters wide, after the terminal has become so."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    seen = b""
    while seen.count(b"\033[2J") < 3:  # the first may have begun before
        seen += os.read(master, 65536)
    screen = seen.split(b"\033[2J")[2].split(b"\033[H")[0].decode()
    return re.sub(r"\033\[[0-9;]*[a-zA-Z]", "", screen).replace("\r", "").splitlines()


@test("--watch cuts lines off at the terminal's edge, wherever that is now")
def watch_narrow():
    with Peer(answers(task_list(500))) as path:
        process, master = watching(path, "--watch=0.1s")
        for columns, heading in ((30, "ID       STATE    NAME     COR"), (5, "ID   "), (200, None)):
            lines = shown(master, columns)
            check(all(len(line) <= columns for line in lines), f"lines that are longer than {columns}: {lines}")
            check_equal(len(lines), 23, "lines")
            if heading:
                check_equal((len(lines[0]), lines[1][:len(heading)]), (columns, heading), "the lines above the list")
            else:
                check(lines[0].endswith("Ctrl-C ends") and lines[1].endswith("WAITING"), f"the lines above the list are whole: {lines[:2]}")
        process.send_signal(signal.SIGINT)
        check_equal(process.wait(DEADLINE), 0, "exit status after Ctrl-C")
        process.stderr.close()
        os.close(master)


@test("--watch ends on Ctrl-C while weftd does not answer")
def watch_hanging():
    event, asked = threading.Event(), threading.Event()

    def serve(connection):
        request(connection)
        asked.set()
        event.wait(DEADLINE)
    with Peer(serve) as path:
        process, master = watching(path, "--watch")
        check(asked.wait(DEADLINE), "it did not ask")
        process.send_signal(signal.SIGINT)
        check_equal(process.wait(DEADLINE), 0, "exit status after Ctrl-C")
        event.set()
        process.stderr.close()
        os.close(master)


run()
