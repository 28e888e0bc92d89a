#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""docs/examples/chat: ten thousand clients in a hundred rooms; who does not read; its end under load."""

import os
import re
import resource
import select
import signal
import socket
import subprocess
import tempfile
import time

from harness import *

N = 1000 if SANITIZED else 10000
N_ROOMS = 100
BATCH = 500  # connections at once: fewer than wait to be accepted
PROGRAM = program("docs/examples/chat")
CLOSED = (ConnectionResetError, BrokenPipeError)


class Chat:
    """A chat server. It must end in order, with nothing left over, whatever the test did."""

    def __enter__(self):
        self.log = tempfile.NamedTemporaryFile(prefix="weft-chat-", suffix=".log")
        self.process = subprocess.Popen([PROGRAM, "127.0.0.1:0"], stdin=subprocess.DEVNULL, stderr=self.log)
        found = wait_until(lambda: re.search(r"chat: listening on 127\.0\.0\.1:(\d+)\n", read(self.log.name)), "chat listens")
        self.address = ("127.0.0.1", int(found[1]))
        return self

    def n_descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self):
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise Failure(f"chat has not ended {DEADLINE} s after SIGINT") from None
        said = read(self.log.name)
        check_equal(said.splitlines()[1:], ["chat: 0 tasks pending", "chat: 0 descriptors open"], "what chat said at its end")
        check_equal(status, 0, "exit status of chat")

    def __exit__(self, kind, *_):
        try:
            if kind is None and self.process.poll() is None:
                self.process.send_signal(signal.SIGINT)
                self.end()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.log.close()


class Client:
    def __init__(self, address, room=None, receive_buffer=None):
        self.room = room
        self.lines = []
        self.rest = b""
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setblocking(False)
        try:
            self.socket.connect(address)
        except BlockingIOError:
            pass

    def say(self, *lines):
        self.socket.sendall(b"".join(line + b"\n" for line in lines))

    def receive(self):
        """What is there to read. How many lines came of it, or None at the end."""
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return 0
        except CLOSED:
            return None
        if not data:
            return None
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.lines += lines
        return len(lines)


class Crowd:
    """Clients, and what they read, all at once."""

    def __init__(self):
        self.clients = {}
        self.n_lines = 0
        self.ended = set()
        self.poll = select.epoll()

    def add(self, client, events=select.EPOLLIN):
        self.clients[client.socket.fileno()] = client
        self.poll.register(client.socket, events)
        return client

    def pump(self, done, what):
        end = time.monotonic() + DEADLINE
        while not done():
            check(time.monotonic() < end, f"after {DEADLINE} s still not: {what}; {self.n_lines} lines have come, "
                  f"{len(self.ended)} of {len(self.clients)} connections have ended")
            for fd, _ in self.poll.poll(0.05):
                n = self.clients[fd].receive()
                if n is None:
                    self.ended.add(fd)
                    self.poll.unregister(fd)
                else:
                    self.n_lines += n

    def await_lines(self, n, what):
        """n lines more than when this was last awaited."""
        self.pump(lambda: self.n_lines >= n, what)
        check_equal(self.n_lines, n, f"lines read: {what}")
        self.n_lines = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients.values():
            client.socket.close()
        self.poll.close()


def fill(crowd, chat, n):
    """n clients in rooms, by turns. They have all been greeted, and have joined."""
    rooms = [b"room-%d" % i for i in range(N_ROOMS)]
    for start in range(0, n, BATCH):
        batch = [crowd.add(Client(chat.address, rooms[i % N_ROOMS])) for i in range(start, min(start + BATCH, n))]
        crowd.await_lines(len(batch), "all are greeted")
        for client in batch:
            client.say(b"/join " + client.room)
        crowd.await_lines(len(batch), "all have joined")
        for client in batch:
            check_equal(client.lines, [b"* welcome", b"* joined"], "first lines")
            client.lines.clear()
    return {room: [client for client in crowd.clients.values() if client.room == room] for room in rooms}


@test("ten thousand clients in a hundred rooms hear what is said in theirs, all of it and nothing else; then SIGINT, under load")
def ten_thousand():
    many_descriptors()
    n = min(N, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100)
    if n < N:
        print(f"# only {n} clients: the limit on descriptors")
    with Chat() as chat, Crowd() as crowd:
        rooms = fill(crowd, chat, n)
        for room, members in rooms.items():
            members[0].say(b"/nick first", b"one " + room, b"two " + room)
            members[-1].say(b"/nick last", b"three " + room)
        crowd.await_lines(3 * n, "everybody has heard three lines")
        for room, members in rooms.items():
            expected = sorted([b"[%s] first: one %s" % (room, room), b"[%s] first: two %s" % (room, room),
                               b"[%s] last: three %s" % (room, room)])
            for client in members:
                check_equal(sorted(client.lines), expected, f"what a client in {room} has heard")
                check_equal(client.lines, members[0].lines, "the order in which it was heard")
        for client in crowd.clients.values():
            client.lines.clear()
        for members in rooms.values():
            for client in members[:4]:
                client.say(b"load", b"load", b"load")
        crowd.pump(lambda: crowd.n_lines > n // 10, "the load has begun to arrive")
        chat.process.send_signal(signal.SIGINT)
        for members in rooms.values():
            for client in members[4:8]:
                try:
                    client.say(b"more load")
                except CLOSED:
                    pass
        crowd.pump(lambda: len(crowd.ended) == n, "all connections have ended")
        chat.end()
        for room, members in rooms.items():
            for client in members:
                for line in client.lines:
                    check(line.startswith((b"[%s] " % room, b"* ")), f"a client in {room} heard {line!r}")
        heard = len([client for client in crowd.clients.values() if b"* this is the end" in client.lines])
        check(heard > n // 2, f"only {heard} have heard the last words")


@test("who does not read is let go, and the others hear everything")
def who_does_not_read():
    with Chat() as chat, Crowd() as crowd:
        speaker, listener = (crowd.add(Client(chat.address)) for _ in range(2))
        deaf = Client(chat.address, receive_buffer=4096)
        wait_until(lambda: deaf.receive(), "the third is greeted")
        crowd.await_lines(2, "all are greeted")
        for client in (speaker, listener, deaf):
            client.say(b"/join here")
        wait_until(lambda: deaf.receive(), "the third has joined")
        crowd.await_lines(2, "all have joined")
        n = chat.n_descriptors()
        n_rounds = 0
        end = time.monotonic() + DEADLINE
        while chat.n_descriptors() == n:  # the deaf one cannot see its end behind all that it does not read
            check(time.monotonic() < end, f"after {n_rounds} rounds the deaf one is still connected")
            speaker.say(*[b"%d %s" % (n_rounds, b"x" * 1000)] * 50)
            crowd.await_lines(100, "50 lines are heard by two")
            n_rounds += 1
        check_equal(len(listener.lines), 2 + 50 * n_rounds, "lines heard")
        check_equal(chat.n_descriptors(), n - 1, "descriptors of chat")
        deaf.socket.close()


def talk(chat, *lines):
    """What a client hears who says this, to the end of the connection."""
    with Crowd() as crowd:
        client = crowd.add(Client(chat.address))
        crowd.await_lines(1, "greeting")
        client.say(*lines)
        crowd.pump(lambda: crowd.ended, "the connection ends")
        return client.lines[1:]


@test("what is no message is answered, and harms nobody")
def bad_input():
    with Chat() as chat:
        usage = b"* /join ROOM, /nick NAME, /quit"
        n = chat.n_descriptors()
        check_equal(talk(chat, b"to whom?", b"/help", b"", b"/quit"), [usage] * 3 + [b"* bye"], "without a room")
        check_equal(talk(chat, b"/join a", b"/join ", b"gone", b"/quit"), [b"* joined", b"* joined", usage, b"* bye"], "room ''")
        check_equal(talk(chat, b"/join a", b"\x1b[2J\0\r", b"/quit"), [b"* joined", b"[a] guest: ?[2J??", b"* bye"], "controls")
        check_equal(talk(chat, b"/join " + b"r" * 500, b"/nick " + b"n" * 500, b"x", b"/quit"),
                    [b"* joined", b"[" + b"r" * 31 + b"] " + b"n" * 31 + b": x", b"* bye"], "long names")
        # (What was not read of it resets the connection, so the last words may be lost.)
        check_equal(talk(chat, b"/join a", b"y" * 5000)[:1], [b"* joined"], "a long line")
        wait_until(lambda: chat.n_descriptors() == n, "all descriptors are closed")


@test("an address that is none is an error")
def bad_address():
    result = subprocess.run([PROGRAM, "nowhere"], capture_output=True, text=True, timeout=DEADLINE)
    check_equal((result.returncode, result.stderr), (1, "chat: 0 descriptors open\nchat: Invalid argument\n"), "status and stderr")


need("docs/examples/chat")
run()
