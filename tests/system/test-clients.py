#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Clients that misbehave: each is told or dropped, and nobody else notices."""

import os
import socket
import time

from harness import *


def raw(weftd):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(DEADLINE)
    client.connect(weftd.socket)
    return client


def read_all(client):
    """What comes until the connection is closed."""
    got = b""
    try:
        while data := client.recv(1 << 16):
            got += data
    except ConnectionResetError:
        pass
    return got


def memory(pid):
    """Resident set, in bytes."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def serves(weftd):
    """Others are served, and soon."""
    started = time.monotonic()
    check(weftd.tasks("naps"), "no tasks of naps")
    took = time.monotonic() - started
    check(took < 1 * SCALE, f"tasks list took {took:.2f} s")


def ready(weftd):
    weftd.running("naps")
    return weftd


@test("garbage gets the connection closed, and weftd's log names the peer")
def garbage():
    with Weftd(NAPS) as weftd:
        ready(weftd)
        for bytes_ in (b"garbage\0", b"\0", b"\xff\xfe\0", b"[]\0", b"42\0", b'{"method": 7}\0', b'{"method"\0',
                       b'{"method":"x.y.Z","parameters":[]}\0', os.urandom(5000).replace(b"\0", b"x") + b"\0",
                       b"[" * 100000 + b"\0", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\0"):
            with raw(weftd) as client:
                client.sendall(bytes_)
                client.shutdown(socket.SHUT_WR)
                answer = read_all(client)
                check(not answer or b'"error"' in answer, f"answer to {bytes_[:40]!r}: {answer[:200]!r}")
                serves(weftd)
        check_equal(weftd.process.poll(), None, "weftd's exit status")
        weftd.wait_log(f"pid {os.getpid()}")


@test("wrong methods, interfaces and parameters get the errors of org.varlink.service")
def wrong_calls():
    with ready_weftd() as weftd, Varlink(weftd.socket) as client:
        for method, parameters, error in (
                ("io.weft.Control.NoSuch", {}, "org.varlink.service.MethodNotFound"),
                ("io.weft.Other.Status", {}, "org.varlink.service.InterfaceNotFound"),
                ("io.weft.Control.GetTask", {}, "org.varlink.service.InvalidParameter"),
                ("io.weft.Control.GetTask", {"id": 7}, "org.varlink.service.InvalidParameter"),
                ("io.weft.Control.GetTask", {"id": "naps/99999999"}, "io.weft.Control.NoSuchTask"),
                ("io.weft.Control.StopWorkload", {"name": "nobody"}, "io.weft.Control.NoSuchWorkload")):
            check_equal(client.call(method, parameters).get("error"), error, f"{method} {parameters}")
        check("parameters" in client.call("io.weft.Control.Status"), "the connection is of no use after errors")


def ready_weftd():
    class Ready(Weftd):
        def __enter__(self):
            return ready(super().__enter__())
    return Ready(NAPS)


@test("half a message, and then nothing, keeps nobody waiting")
def half_a_message():
    with ready_weftd() as weftd:
        halves = [raw(weftd) for _ in range(20)]
        for client in halves:
            client.sendall(b'{"method":"io.weft.Control.Sta')
        serves(weftd)
        for client in halves:
            client.close()
        serves(weftd)


@test("100 MB without a NUL are not kept: the client is dropped")
def too_long():
    with ready_weftd() as weftd:
        before = memory(weftd.process.pid)
        sent = 0
        with raw(weftd) as client:
            try:
                while sent < 100 << 20:
                    sent += client.send(b"x" * (1 << 20))
            except (BrokenPipeError, ConnectionResetError):
                pass
            check(sent < 100 << 20, "weftd has taken all of it")
        grown = memory(weftd.process.pid) - before
        check(grown < (20 << 20) * SCALE, f"weftd has grown by {grown >> 20} MiB")
        serves(weftd)


@test("a client that never reads is dropped or paused at a bound, and the others are served")
def never_reads():
    with ready_weftd() as weftd:
        before = memory(weftd.process.pid)
        clients = []
        for _ in range(4):
            client = raw(weftd)
            client.setblocking(False)
            request = b'{"method":"io.weft.Control.ListTasks","more":true}\0{"method":"io.weft.Control.Status"}\0' * 100
            sent = 0
            try:
                while sent < 20 << 20:
                    sent += client.send(request)
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                pass
            check(sent < 20 << 20, "weftd takes requests without end from a client that does not read")
            clients.append(client)
        for _ in range(5):
            serves(weftd)
        grown = memory(weftd.process.pid) - before
        check(grown < (64 << 20) * SCALE, f"weftd has grown by {grown >> 20} MiB")
        for client in clients:
            client.close()
        serves(weftd)


@test("a thousand connections at once cannot keep weftctl out for longer than they stay")
def many_connections():
    many_descriptors()
    with ready_weftd() as weftd:
        clients = []
        try:
            for _ in range(1000):
                client = socket.socket(socket.AF_UNIX)
                client.setblocking(False)
                try:
                    client.connect(weftd.socket)
                except BlockingIOError:  # the backlog is full
                    client.close()
                    continue
                clients.append(client)
            check(len(clients) > 100, f"only {len(clients)} connections came about")
            check_equal(weftd.process.poll(), None, "weftd's exit status")
        finally:
            for client in clients:
                client.close()
        wait_until(lambda: weftd.weftctl("tasks", "list", status=None).returncode == 0, "weftctl is served again")
        serves(weftd)


@test("a connection too many is told so, in a line of weftctl's, until another one ends")
def too_many_connections():
    many_descriptors()
    with ready_weftd() as weftd:
        clients = []
        try:
            limit = 256 if os.geteuid() == 0 else 64
            for _ in range(limit):
                client = raw(weftd)
                clients.append(client)
                client.sendall(b'{"method":"org.varlink.service.GetInfo"}\0')
                check(b"weftd" in client.recv(1 << 16), f"connection {len(clients)} is served")
            for arguments in (["status"], ["tasks", "list"], ["history", "runs"]):
                result = weftd.weftctl(*arguments, status=1)
                check_equal(len(result.stderr.splitlines()), 1, f"lines on stderr: {result.stderr!r}")
                check("too many connections" in result.stderr and str(limit) in result.stderr, f"weftctl {arguments} says {result.stderr!r}")
            weftd.wait_log("too many connections")
            clients.pop().close()
            wait_until(lambda: weftd.weftctl("status", status=None).returncode == 0, "weftctl is served again")
        finally:
            for client in clients:
                client.close()


run()
