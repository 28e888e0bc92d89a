#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""weftctl tasks tree: who waits for whom, as it is drawn and as JSON."""

import re
import struct

from harness import *

CIRCLES = program("tests/system/circles")
QUICK = 'stop_timeout = "200ms"\n'  # what waits in a circle does not end when it is asked to
MANY = 20000 if not SANITIZED else 4000
os.environ["LC_ALL"] = "C.UTF-8"


def settled(weftd, name, n):
    """The workload's tasks are n, and all wait."""
    wait_until(lambda: (lambda tasks: len(tasks) == n and all(t["state"] == "waiting" for t in tasks))(weftd.tasks(name)), f"{n} tasks of {name} wait")


def drawn(text):
    """The lines without what differs from time to time: addresses, durations, directories, line numbers."""
    lines = [re.sub(r"0x[0-9a-f]+", "ADDRESS", re.sub(r"\S*/(\w+\.c):\d+", r"\1", re.sub(r"\b[\d.]+(us|ms|s)\b", "TIME", line))) for line in text.splitlines()]
    return [re.sub(r"  +", "  ", line).rstrip(" -") for line in lines]


@test("under each task stands what it depends on: awaits, a mutex's owner, what it gathers")
def everything():
    with Weftd(workload("tree", CIRCLES, "tree")) as weftd:
        settled(weftd, "tree", 8)
        text = weftd.weftctl("tasks", "tree").stdout
        expected = [
            "TASK  CORO  STATE  FOR  WAITS FOR  AT",
            "tree/1  main_coro  waiting  TIME  several tasks (4)  tree at circles.c",
            "├─ tree/3  wants_mutex  waiting  TIME  mutex ADDRESS held by tree/2  wants_mutex at circles.c",
            "│  └─ tree/2 'holder'  holds_mutex  waiting  TIME  sleep  holds_mutex at circles.c",
            "├─ tree/4  awaits_other  waiting  TIME  tree/2",
            "├─ tree/5  waits_for_first  waiting  TIME  the next of several tasks (2)  waits_for_first at circles.c",
            "│  ├─ tree/7  sleeps  waiting  TIME  sleep",
            "│  └─ tree/8  sleeps  waiting  TIME  sleep",
            "└─ tree/6  runs_in_thread  waiting  TIME  sleep",
        ]
        # A function that ends in the call that waits has left its frame by then; whether it has is the compiler's business.
        for got, want in zip(drawn(text), expected):
            check(got.startswith(want) or want.startswith(got), f"'{got}', not '{want}', in:\n{text}")
        check_equal(len(text.splitlines()), len(expected), f"lines of:\n{text}")

        lines = {line["id"]: line for line in weftd.json("tasks", "tree", "-w", "tree")}
        check_equal(sorted(lines), [f"tree/{i}" for i in range(1, 9)], "tasks, one object each")
        check_equal([(w["id"], w["why"]) for w in lines["tree/1"]["waits_for"]], [(f"tree/{i}", "all") for i in (3, 4, 5, 6)], "whom the main task gathers")
        check_equal((lines["tree/4"]["waits_for_id"], lines["tree/4"]["n_waits_for"], lines["tree/4"]["under"]), ("tree/2", 1, "tree/1"), "an await")
        check_equal(lines["tree/3"]["waits_for"], [{"id": "tree/2", "why": "mutex"}], "a mutex")
        check_equal(lines["tree/7"]["why"], "any", "why it stands there")
        check(not any(line["circle"] for line in lines.values()), "there is no circle")
        check_equal(lines["tree/2"]["task"]["name"], "holder", "the task itself")

        check_equal([line["id"] for line in weftd.json("tasks", "tree", "tree/2")], ["tree/1", "tree/3", "tree/2", "tree/4"], "one task, and who depends on it")
        check_equal([line["id"] for line in weftd.json("tasks", "tree", "tree/5")], ["tree/1", "tree/5", "tree/7", "tree/8"], "one task, with what it depends on")
        weftd.weftctl("tasks", "tree", "tree/99", status=5)
        weftd.weftctl("tasks", "tree", "rubbish", status=2)
        os.environ["LC_ALL"] = "C"
        plain = weftd.weftctl("tasks", "tree").stdout
        os.environ["LC_ALL"] = "C.UTF-8"
        check("|  `- tree/2" in plain and plain.isascii(), f"without UTF-8:\n{plain}")


@test("circles are drawn, and closed by a line")
def circles():
    config = QUICK + workload("group", CIRCLES, "group") + workload("deadlock", program("docs/examples/deadlock"), "1000")
    with Weftd(config) as weftd:
        settled(weftd, "group", 4)
        settled(weftd, "deadlock", 3)
        wait_until(lambda: len(weftd.json("status")[0]["deadlocks"]) == 2, "both are deadlocks")
        text = weftd.weftctl("tasks", "tree", "-w", "deadlock").stdout
        for got, want in zip(drawn(text)[1:], [
                "deadlock/1  main_coro  waiting  TIME  group (2)  main_coro at deadlock.c",
                "├─ deadlock/2  book  waiting  TIME  mutex ADDRESS held by deadlock/3  lock_both at deadlock.c",
                "│  └─ deadlock/3  audit  waiting  TIME  mutex ADDRESS held by deadlock/2  lock_both at deadlock.c",
                "│  └─ deadlock/2  CIRCLE",
                "└─ deadlock/3  above"]):
            check_equal(got, want, f"a line of:\n{text}")
        lines = weftd.json("tasks", "tree", "-w", "group")
        check_equal([(line["id"], line["circle"]) for line in lines], [("group/1", False), ("group/2", True), ("group/3", False), ("group/4", True)], "the circle")


@test("many thousand tasks stream, those who want a mutex know its owner, and weftd answers meanwhile")
def many():
    with Weftd(QUICK + workload("many", CIRCLES, "many", str(MANY))) as weftd:
        wait_until(lambda: weftd.json("status")[0]["deadlocks"], "all tasks are there, and the last has closed the circle")
        with Varlink(weftd.socket) as stream:
            stream.send("io.weft.Control.TaskTree", {"workload": "many", "places": 0}, more=True)
            first = stream.receive()["parameters"]["line"]
            check(weftd.json("status"), "an answer while the tree is sent")
            n = 1
            while True:
                reply = stream.receive()
                n += "line" in reply["parameters"] and not reply["parameters"]["line"]["again"]
                if not reply.get("continues"):
                    break
        check_equal((first["id"], first["circle"], n), ("many/2", False, MANY + 1), "the tree of all")
        lines = weftd.json("tasks", "tree", f"many/{MANY + 1}")
        check_equal(len(lines), MANY + 1, "all depend on the one")
        check(all(line["waits_for_id"] in ("many/1", f"many/{MANY + 1}") for line in lines), "whose mutex it is")


@test("a black box that says nonsense about who waits for whom is drawn as it says, and harms nothing")
def nonsense():
    with Weftd(QUICK + workload("many", CIRCLES, "many", "1000") + workload("tree", CIRCLES, "tree")) as weftd:
        settled(weftd, "many", 1001)
        settled(weftd, "tree", 8)
        name = [n for n in os.listdir(weftd.runtime) if n.startswith("many.")][0]
        size, owner = box_offset("slot"), box_offset("wait_owner")
        with open(os.path.join(weftd.runtime, name), "r+b") as box:
            box.seek(box_offset("slots_offset"))
            slots = struct.unpack("=Q", box.read(8))[0]
            for i in range(1000):
                box.seek(slots + i * size + owner)
                box.write(struct.pack("=Q", (i * 7919) % 1500 if i % 3 else 2**64 - 1 - i))
        for _ in range(3):
            check_equal(len({line["id"] for line in weftd.json("tasks", "tree", "-w", "many")}), 1001, "tasks of the box that lies")
        check_equal(len(weftd.json("tasks", "tree", "-w", "tree")), 8, "tasks of the other")


def waits(lines):
    return sorted(line["waiting_for"] for line in lines if line["coro"] == "waits_for_thread")


@test("a task that waits for a thread says for which function, in all commands, and what is no function's address is shown as it is")
def threads():
    n = 100
    with Weftd(QUICK + workload("threads", CIRCLES, "threads", str(n))) as weftd:
        settled(weftd, "threads", n + 1)
        check_equal(waits(weftd.tasks("threads")), ["thread stands_still()"] * n, "waits in tasks list")
        with Varlink(weftd.socket) as client:
            check_equal(waits(client.call("io.weft.Control.ListTasks")["parameters"]["tasks"]), ["thread stands_still()"] * n, "waits in one reply")
        for command in (["tasks", "show", "threads/2"], ["tasks", "stack", "threads/2"], ["tasks", "tree"]):
            weftd.stop() # the next one has not looked any name up yet
            weftd.start()
            first = wait_until(lambda: (lambda text: re.search(r"(?<!\w)thread \S", text) and text)(weftd.weftctl(*command, status=None).stdout),
                               f"weftctl {command} finds a task that waits")
            check("thread stands_still()" in first, f"weftctl {command} says:\n{first}")
        settled(weftd, "threads", n + 1)
        name = [f for f in os.listdir(weftd.runtime) if f.startswith("threads.") and f.endswith(".blackbox")][0]
        size, wanted = box_offset("slot"), box_offset("wait_object")
        with open(os.path.join(weftd.runtime, name), "r+b") as box:
            box.seek(box_offset("slots_offset"))
            slots = struct.unpack("=Q", box.read(8))[0]
            box.seek(slots + size + wanted)
            function = struct.unpack("=Q", box.read(8))[0]
            for i in range(1, n):
                box.seek(slots + i * size + wanted)
                box.write(struct.pack("=Q", function + 1 if i == 1 else 2**64 - i))
        expected = sorted([f"thread {function + 1:#x}", "thread stands_still()"] + [f"thread {2**64 - i:#x}" for i in range(2, n)])
        for _ in range(2):
            found = waits(weftd.tasks("threads"))
            # One call asks about so many addresses and no more; the real one may come after them.
            check_equal([w for w in found if w != f"thread {function:#x}"], [w for w in expected if w in found], "waits of a box that lies")
            check_equal(len(found), n, "its tasks")
        check_equal(len(weftd.json("tasks", "tree")), n + 1, "its tree")


@test("tasks show tells of tasks that wake themselves, that outlive their group, that have never yielded")
def lints():
    config = QUICK + workload("lints", program("tests/system/lints")) + workload("blocks", program("tests/system/lints"), "block")
    with Weftd(config) as weftd:
        def lint(coro, name="lints"):
            found = [t["id"] for t in weftd.tasks(name) if t["coro"] == coro]
            return found and weftd.weftctl("tasks", "show", found[0], "--json", status=None).stdout
        wait_until(lambda: '"wakes itself: 200 of its 20' in (lint("yields") or ""), "the task that yields has its lint")
        wait_until(lambda: '"outlives its task group: task 3, which was to wait for it, has ended"' in (lint("clings") or ""), "the child has its lint")
        check_equal(json.loads(lint("main_coro"))["lints"], [], "lints of a task that is as it should be")
        wait_until(lambda: re.search(r'"never yielded: it has run for \d\.\d s, and not suspended once"', lint("main_coro", "blocks") or ""), "the task that blocks has its lint")
        wakes = [t["id"] for t in weftd.tasks("lints") if t["coro"] == "yields"][0]
        check("lint        wakes itself: 200 of its 20" in weftd.weftctl("tasks", "show", wakes).stdout, "the lint for people")


need("weftd", "weftctl", "docs/examples/deadlock", "tests/system/circles", "tests/system/layout", "tests/system/lints")
run()
