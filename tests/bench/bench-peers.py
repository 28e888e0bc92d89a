#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""weft's peers, in turns with weft: lines of `peer_FIGURE_PEER value unit ratio against`; over 1: weft is faster.

Those of debug mode stand next to the peer's own without it, as weft's do in the table.
"""

from benchlib import ROUNDS, Peers, line, measured, medians, processor, program

FIGURES = ["yield", "spawn_await", "spawn_await_100k", "queue", "context_get", "context_set", "context_copy"]
DEBUG = {"debug_yield": "yield", "debug_spawn_await": "spawn_await"}
NOTES = {("boost", "yield"): " (a switch and nothing else)",
         ("boost", "spawn_await"): " (two switches and nothing else)"}


def run_peer(peers, name, what):
    return measured([*peers.commands[name], what], env=peers.env, preexec_fn=lambda: processor(True))


def figures(peers):
    runs = {name: [] for name in ["weft", *peers.commands]}
    for _ in range(ROUNDS):
        runs["weft"].append(measured([program("tests/bench/bench-runtime"), "-r", "1", *FIGURES]))
        for name in peers.commands:
            runs[name].append(run_peer(peers, name, "figures"))
    values = {name: medians(rounds) for name, rounds in runs.items()}
    weft = values.pop("weft")
    for figure in FIGURES:
        for name, peer in values.items():
            if figure in peer:
                line(f"peer_{figure}_{name}", peer[figure], "ns", peer[figure] / weft[figure],
                     f"weft's {figure}, {weft[figure]:.2f}{NOTES.get((name, figure), '')}")
    for figure, without in DEBUG.items():
        for name, peer in values.items():
            if figure in peer:
                line(f"peer_{figure}_{name}", peer[figure], "ns", peer[figure] / peer[without],
                     f"its {without} without debug mode, {peer[without]:.2f}")


def memory(peers):
    """Once: it is bytes, and the same every time. weft's own stands in the table."""
    for name in peers.commands:
        if name in ("go", "asyncio"):
            value = run_peer(peers, name, "memory")["task_memory_1m"]
            line(f"peer_task_memory_1m_{name}", value, "bytes", value / 4096, "a page")


with Peers() as all_peers:
    figures(all_peers)
    memory(all_peers)
