#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Mid-block reports: what weftd says of a step while it blocks its loop, and that the step does not feel it."""

import re
import shutil
import subprocess
import tempfile

from harness import *

PATIENT = plain("tests/system/patient")
BLOCK = 2 if SANITIZED else 0.5  # seconds
# What each call gives when its time is over: result, errno.
EAGAIN, ETIMEDOUT = 11, 110
TIMED_OUT = {name: (-1, EAGAIN) for name in ("accept", "connect", "recv", "recvmsg", "semtimedop", "send", "sigtimedwait")}
RESULTS = {**TIMED_OUT, "futex": (-1, ETIMEDOUT), "eventfd": (8, 0), "inotify": (16, 0), "msgrcv": (1, 0), "pipe": (8, 0), "timerfd": (8, 0),
           "waitpid": (7, 0), "sqlite": (9, 0), "getaddrinfo": (-3, 0)}
# The function that the program calls, where it is not of the same name.
FUNCTIONS = {"eventfd": "read", "inotify": "read", "pipe": "read", "timerfd": "read", "futex": "syscall", "io_getevents": "syscall",
             "spin": "call_spin", "sqlite": "sqlite3_exec", "waitpid": "wait"}
# Calls that a stop would end early: frames that cannot be had without one are left out.
NOT_STOPPED = ["accept", "connect", "epoll_pwait2", "epoll_wait", "io_getevents", "recv", "recvmsg", "semtimedop", "send", "sigtimedwait"]


def patients(names, *arguments, slow="100ms", program=PATIENT):
    return f'slow = "{slow}"\n' + "".join(workload(name, program, name, *arguments, restart="no") for name in names)


def outcomes(weftd):
    """NAME -> (result, errno, milliseconds) of all patients that have ended."""
    return {m[1]: (m[2], int(m[3]), float(m[4])) for m in re.finditer(r"^patient (\S+) (\S+) (\d+) (\d+)$", read(weftd.log), re.M)}


def blocked(weftd, name):
    """All mid-block reports of a workload: text, detail, when, the context variable `call`."""
    return weftd.query("SELECT e.text, e.detail, e.time_ns, v.value FROM events AS e LEFT JOIN context_vars AS v ON v.context_id = e.context_id"
                       " AND v.var = 'call' WHERE e.kind = 'blocked' AND e.workload = ? AND e.detail LIKE '%coroutine patient()%' ORDER BY e.time_ns", name)


def wait_recorded(weftd, n):
    wait_until(lambda: weftd.value("SELECT count(DISTINCT run_id) FROM slow_steps") >= n, "the slow steps are recorded")


def block_in(names, seconds):
    """Runs the patients, checks what their calls gave; returns those of which there is no report, or none with the frames that it must have."""
    with Weftd(patients(["spin"], 1, 1)) as weftd:
        wait_until(lambda: outcomes(weftd) and blocked(weftd, "spin"), "the first one, for which debug information is read")
        weftd.configure(patients(names, 1, seconds))
        weftd.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(re.findall("^patient ", read(weftd.log), re.M)) >= len(names) + 1, "all patients end", DEADLINE + 4 * seconds)
        ran = [name for name in names if outcomes(weftd)[name][0] != "skip"]
        # (a run has ended when all of its records are in the history)
        wait_until(lambda: weftd.value("SELECT count(*) FROM runs WHERE how != 'running'") > len(names), "the runs are over")
        for name in ran:
            check_outcome(name, outcomes(weftd)[name], seconds)
        check_equal(weftd.query("SELECT wakes_delayed, worst_lag_ms BETWEEN 1 AND took_ms FROM slow_steps WHERE workload = 'nanosleep' AND coro = 'patient'"),
                    [(3, 1)] if "nanosleep" in ran else [], "wakes delayed by nanosleep, and whether the worst lag is right")
        return [name for name in ran if not reported(weftd, name)]


def check_outcome(name, outcome, seconds):
    result, error, ms = outcome
    check_equal((int(result), error), RESULTS.get(name, (0, 0)), f"result and errno of {name}")
    least = 1000 if name == "getaddrinfo" else seconds * 1000
    check(least - 5 <= ms, f"{name} was to take {least} ms, and took {ms} ms")


def reported(weftd, name):
    """Was it reported before it had ended, for what it is, with frames?"""
    reports = blocked(weftd, name)
    steps = weftd.query("SELECT started_ns, ended_ns FROM slow_steps WHERE workload = ? AND coro = 'patient'", name)
    for report in reports:
        check(any(started < report[2] < ended for started, ended in steps), f"{name} was reported when it did not block: {report}")
        check_equal(report[3], name, f"context variable in a report of {name}")
    return reports and (SANITIZED or has_frames(name, reports))


def has_frames(name, reports):
    """Does a report name the call and the patient's own line, or say why it cannot?"""
    function = FUNCTIONS.get(name, name)
    place = r"call_\w+\(\) at \S*patient-\w+\.c:\d+"
    whole = re.compile(rf"in {function}\w*\(\) called by {place}" if function != "call_spin" else rf"in {place}")
    return (any(whole.search(text) for text, *_ in reports) or
            (name in NOT_STOPPED and any("stopping would interrupt" in detail for _, detail, *_ in reports)))


@test("a step in each system call is reported while it blocks, and the call takes its time and gives its result as if nobody had looked")
def every_call():
    left = subprocess.run([PATIENT], capture_output=True, text=True, check=True).stdout.split()
    check(len(left) > 25, f"the patient knows {left}")
    at_once = 5 if WRAPPER else len(left)  # (in Valgrind's 128 GiB of address space there is no room for more black boxes)
    # A machine that has no time for weftd within one block has it within a longer one.
    for seconds in (BLOCK, 4 * BLOCK, 12 * BLOCK):
        left = [name for i in range(0, len(left), at_once) for name in block_in(left[i:i + at_once], seconds)]
        if not left:
            return
    raise Failure(f"no report names the call and its line: {left}")


@test("the example is reported before its step has ended, names sleep() and the line that calls it, and still sleeps for two seconds")
def the_example():
    config = workload("example", program("docs/examples/blocking"), restart="no", debug="on")
    with Weftd() as weftd:
        with Varlink(weftd.socket) as client:
            client.send("io.weft.Control.Events", {"kind": "blocked"}, more=True)
            client.receive()
            weftd.configure(config)
            weftd.process.send_signal(signal.SIGHUP)
            first = client.receive()["parameters"]["event"]
            heard = time.time_ns()
            check_equal(first["task_id"], "example/1", "the task of the first report")
            second = client.receive()["parameters"]["event"]
        wait_recorded(weftd, 1)
        started, ended, took = weftd.query("SELECT started_ns, ended_ns, took_ms FROM slow_steps")[0]
        check(heard < ended, f"the first report came {(heard - ended) / 1e6} ms after the step's end")
        check(2000 <= took < 2000 + 50 * SCALE, f"the example's sleep took {took} ms")
        for event in (first, second):
            text = event["text"]
            check(SANITIZED or re.search(r"in sleep\(\) called by task\(\) at \S*blocking\.c:13$", text), f"the report says: {text}")
            check(SANITIZED or re.search(r"^main_coro at \S*blocking\.c:21$", event["detail"], re.M), f"its frames: {event['detail']}")
        check(re.match(r"has blocked its loop for 0\.1\d\d s", first["text"]) or SCALE > 1, f"the first report: {first['text']}")
        check((first["time_ns"] - started) / 1e6 < 100 + 60 * SCALE, f"the first report is of {(first['time_ns'] - started) / 1e6} ms")
        weftd.wait_log("took 2.0")
        check(weftd.log_has("warning: blocked: example/1 'Task-1': has blocked its loop for 0."), "the log has no line of the report")
        stack = weftd.value("SELECT stack FROM slow_steps")
        check(SANITIZED or re.search(r"^task at \S*blocking\.c:13$", stack, re.M), f"the stack in slow_steps: {stack}")
        check_equal(weftd.value("SELECT detail LIKE stack || '%' FROM slow_steps"), 1, "whether the detail begins with the stack")


@test("a stripped program is reported with module and offset")
def stripped():
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as directory:
        bare = os.path.join(directory, "bare")
        shutil.copy(PATIENT, bare)
        subprocess.run(["strip", bare], check=True)
        with Weftd(patients(["nanosleep", "spin"], 1, BLOCK, program=bare)) as weftd:
            wait_until(lambda: len(outcomes(weftd)) == 2, "the patients end")
            wait_recorded(weftd, 2)
            texts = [report[0] for report in blocked(weftd, "nanosleep")]
            check(SANITIZED or any(re.search(r"in \w*nanosleep\(\) called by bare\+0x[0-9a-f]+", text) for text in texts), f"reports: {texts}")
            texts = [report[0] for report in blocked(weftd, "spin")]
            check(any(re.search(r"bare\+0x[0-9a-f]+", text) for text in texts), f"reports: {texts}")


@test("of a worker that may not be looked into, time and context are reported, and why there are no frames")
def refused():
    if os.geteuid() == 0:
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        if subprocess.run([*user, "test", "-x", PATIENT], check=False).returncode != 0:
            raise Skip("another user cannot run what was built here")
    else:
        user = []
    weftd = Weftd(patients(["nanosleep"], 1, BLOCK))
    weftd.env["PATIENT_PRIVATE"] = "1"
    if user:
        os.chown(weftd.directory, 65534, 65534)
        own = weftd.command
        weftd.command = lambda: [*user, *own()]
    with weftd:
        wait_until(lambda: outcomes(weftd), "the patient ends")
        wait_recorded(weftd, 1)
        reports = blocked(weftd, "nanosleep")
        check(reports, "there is no report")
        for text, detail, _, call in reports:
            check(re.fullmatch(r"has blocked its loop for \d+\.\d{3} s", text), f"the report says {text}")
            check(re.search(r"^\(.*(not permitted|refused|ptrace|may not)", detail, re.M | re.I), f"the reason is not said: {detail}")
            check_equal(call, "nanosleep", "context variable in the report")


@test("a callback that blocks is reported too, and in status")
def a_callback():
    with Weftd(env={"PATIENT_CALLBACK": "1"}) as weftd:
        weftd.configure(patients(["nanosleep"], 1, 4 * BLOCK))
        weftd.process.send_signal(signal.SIGHUP)
        text, detail = wait_until(lambda: weftd.query("SELECT text, detail FROM events WHERE kind = 'blocked' AND task_id IS NULL"), "it is reported")[0]
        loop = weftd.json("status")[0]["loops"][0]
        check(loop["blocked_ms"] and loop["blocked_task"] is None, f"status says {loop}")
        wait_until(lambda: outcomes(weftd), "the patient ends")
        check(re.match(r"a callback has blocked its loop for \d\.\d{3} s", text), f"the report says {text}")
        check(SANITIZED or re.search(r"in nanosleep\(\) called by call_nanosleep\(\) at \S*patient-timed\.c:\d+$", text), f"the report says {text}")
        check(SANITIZED or "block_once at " in detail, f"its frames: {detail}")


@test("a worker has at most five reports a minute, and the rest are counted")
def at_most_five():
    with Weftd(patients(["nanosleep"], 12, 0.1, slow="40ms")) as weftd:
        wait_until(lambda: weftd.value("SELECT count(*) FROM events WHERE kind = 'exit'"), "the patient ends")
        said = wait_until(lambda: weftd.query("SELECT text FROM events WHERE kind = 'blocked' AND task_id IS NULL"), "the rest are counted")
        check_equal(len(blocked(weftd, "nanosleep")), 5, "reports")
        steps, seen = weftd.query("SELECT count(*), count(stack) FROM slow_steps WHERE coro = 'patient'")[0]
        check(steps == 12 and (seen > 5 or SANITIZED), f"of {steps} slow steps {seen} have a stack: also those that were not reported should")
        check(re.fullmatch(r"[1-9]\d* more reports of blocked steps were not written \(at most 5 a minute\)", said[0][0]), said[0][0])


@test("a worker that is killed in the midst of a step is not reported any more, and harms nobody")
def killed():
    config = patients(["sleep", "spin"], 1, 30, slow="50ms")
    with Weftd(config + NAPS) as weftd:
        for name in ("sleep", "spin"):
            wait_until(lambda: blocked(weftd, name), f"{name} is reported")
            os.kill(weftd.workload(name)["pid"], signal.SIGKILL)
        wait_until(lambda: weftd.value("SELECT count(*) FROM tasks WHERE state = 'crashed' AND coro = 'patient'") == 2, "both are recorded as crashed")
        n = weftd.value("SELECT count(*) FROM events WHERE kind = 'blocked'")
        weftd.running("naps")
        wait_until(lambda: weftd.value("SELECT count(*) FROM tasks WHERE workload = 'naps'") > 3, "the others are recorded on")
        check_equal(weftd.value("SELECT count(*) FROM events WHERE kind = 'blocked'"), n, "reports, some time after the workers' end")


run()
