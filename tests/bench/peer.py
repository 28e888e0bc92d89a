#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""CPython's asyncio, or uvloop, measured as weft is.

peer.py asyncio|uvloop figures|memory|echo: prints lines of name and value; echo serves and prints its port.
"""

import asyncio
import contextvars
import os
import sys
import time

N_YIELDS = 100_000
N_SPAWNS = 30_000
N_MANY = 100_000
N_MESSAGES = 50_000
N_MEMORY = 1_000_000
N_CONTEXT = 200_000


def report(name, start, n):
    print(f"{name} {(time.perf_counter() - start) * 1e9 / n:.2f}")


async def nothing():
    pass


async def yielder():
    for _ in range(N_YIELDS // 2):
        await asyncio.sleep(0)


async def yields(name="yield"):
    start = time.perf_counter()
    await asyncio.gather(yielder(), yielder())
    report(name, start, N_YIELDS)


async def spawns(name="spawn_await", n=N_SPAWNS):
    start = time.perf_counter()
    for _ in range(n):
        await asyncio.create_task(nothing())
    report(name, start, n)


async def spawns_many():
    start = time.perf_counter()
    tasks = [asyncio.create_task(nothing()) for _ in range(N_MANY)]
    for task in tasks:
        await task
    report("spawn_await_100k", start, N_MANY)


async def queue():
    messages = asyncio.Queue(1)

    async def send():
        for _ in range(N_MESSAGES):
            await messages.put(None)

    async def receive():
        for _ in range(N_MESSAGES):
            await messages.get()

    start = time.perf_counter()
    await asyncio.gather(send(), receive())
    report("queue", start, N_MESSAGES)


def contexts():
    """Python's own variables: the same for both loops."""
    variables = [contextvars.ContextVar(f"variable-{i}") for i in range(32)]
    for variable in variables:
        variable.set(1)
    some = variables * (N_CONTEXT // len(variables))
    start = time.perf_counter()
    for variable in some:
        variable.get()
    report("context_get", start, len(some))
    start = time.perf_counter()
    for variable in some:
        variable.set(2)
    report("context_set", start, len(some))
    copy = contextvars.copy_context
    start = time.perf_counter()
    for _ in some:
        copy()
    report("context_copy", start, len(some))


async def figures():
    await yields()
    await spawns()
    await spawns_many()
    await queue()
    if not sys.modules.get("uvloop"):
        contexts()
    asyncio.get_running_loop().set_debug(True)
    asyncio.get_running_loop().slow_callback_duration = 1e9
    await yields("debug_yield")
    await spawns("debug_spawn_await", N_SPAWNS // 10)


def memory_bytes():
    with open("/proc/self/status", encoding="ascii") as status:
        return sum(int(line.split()[1]) * 1024 for line in status if line.startswith(("VmRSS:", "VmPTE:")))


async def memory():
    before = memory_bytes()
    tasks = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(N_MEMORY)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    print(f"task_memory_1m {(memory_bytes() - before) / len(tasks):.2f}", flush=True)
    os._exit(0)  # to cancel them all is not what is measured


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def echo():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if sys.argv[1] == "uvloop":
    import uvloop

    uvloop.install()
asyncio.run({"figures": figures, "memory": memory, "echo": echo}[sys.argv[2]]())
