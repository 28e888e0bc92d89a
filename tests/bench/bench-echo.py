#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""An echo over loopback, 64 connections: weft-echo, observed, against a bare libevent server, and its peers.

All servers run all the time, on a processor of their own; they take turns to be asked, by the same client, which does less than
any server (it asks nobody which descriptor is ready), so that the server is what is measured.
"""

import os
import re
import statistics
import subprocess
import tempfile

from benchlib import Peers, line, processor, program

N_CONNECTIONS = 64
SECONDS = 0.4
ROUNDS = 7


class Server:
    def __init__(self, command, **more):
        """The first line that it prints ends in its port."""
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        preexec_fn=lambda: processor(True), **more)
        self.port = re.search(r"(\d+)$", self.process.stdout.readline().strip()).group(1)
        self.rates, self.costs = [], []

    def cpu_ns(self):
        tasks = f"/proc/{self.process.pid}/task"
        total = 0
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
        return total

    def ask(self):
        before = self.cpu_ns()
        output = subprocess.run([program("tests/bench/echo-load"), self.port, str(N_CONNECTIONS), str(SECONDS)], check=True,
                                stdout=subprocess.PIPE, text=True, preexec_fn=lambda: processor(False)).stdout
        n, seconds = output.split()
        self.rates.append(int(n) / float(seconds))
        self.costs.append((self.cpu_ns() - before) / int(n))

    def rate(self):
        return statistics.median(self.rates)

    def cost(self):
        return statistics.median(self.costs)

    def end(self):
        self.process.kill()
        self.process.wait()


def main():
    servers = {}
    consumer = None
    with Peers(want_boost=False) as peers, tempfile.TemporaryDirectory(prefix="weft-bench-", dir="/dev/shm") as directory:
        try:
            servers["weft"] = Server([program("weft-echo"), "--listen", "127.0.0.1:0"],
                                     env={**os.environ, "WEFT_BLACKBOX_DIR": directory})
            consumer = subprocess.Popen([program("tests/bench/bench-runtime"), "-c", directory],
                                        preexec_fn=lambda: processor(False))
            servers["libevent"] = Server([program("tests/bench/echo-libevent")])
            for name, command in peers.commands.items():
                servers[name] = Server([*command, "echo"], env=peers.env)
            for _ in range(ROUNDS):
                for server in servers.values():
                    server.ask()
        finally:
            for server in servers.values():
                server.end()
            if consumer:
                consumer.kill()
                consumer.wait()
    report(servers)


def report(servers):
    weft, bare = servers.pop("weft"), servers.pop("libevent")
    ratio = statistics.median(a / b for a, b in zip(weft.rates, bare.rates))
    line("echo", weft.rate(), "requests/s", ratio, f"a bare libevent echo server, {bare.rate():.0f}; must be a ratio >= 0.95",
         ratio >= 0.95)
    line("echo_cpu", weft.cost(), "ns", weft.cost() / bare.cost(), "the bare server's processor time for a request")
    for name, server in servers.items():
        line(f"peer_echo_{name}", server.rate(), "requests/s", server.rate() / weft.rate(), f"weft's echo, {weft.rate():.0f}")


main()
