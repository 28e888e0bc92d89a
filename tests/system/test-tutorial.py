#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""docs/tutorial.md: the code of each step compiles and does what the text says that it does."""

import os
import re
import shlex
import socket
import subprocess
import tempfile

from harness import *

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
N_STEPS = 6


def blocks():
    """(step, what, text) of each block behind a comment `<!-- step N: WHAT -->`."""
    text = read(os.path.join(SOURCE, "docs/tutorial.md"))
    found = re.findall(r"<!-- step (\d): ([a-z ]+) -->\n```c?\n(.*?)```\n", text, re.S)
    check_equal(len(found), text.count("<!-- step"), "blocks that are marked and well formed")
    return [(int(step), what, block) for step, what, block in found]


def source(step):
    """service.c at the end of a step: a section takes the place of the one of its name; new ones go before main."""
    order, sections = [], {}
    for number, what, text in blocks():
        name, _, before = what.partition(" before ")
        if number > step or name in ("run", "said"):
            continue
        if name not in sections:
            order.insert(order.index(before or "main") if (before or "main") in order else len(order), name)
        sections[name] = text
    return "\n".join(sections[name] for name in order)


def expected(step, kind):
    return "".join(text for number, what, text in blocks() if (number, what) == (step, kind))


def setting(name):
    return re.search(rf"^{name} = (.*)$", read(program("Makefile")), re.M).group(1)


def compile_service(directory, step, listen, *options):
    path = os.path.join(directory, "service.c")
    with open(path, "w") as file:
        file.write(source(step).replace('weft_http_listen(server, "127.0.0.1:8080")', f'weft_http_listen(server, "{listen[0]}")')
                   .replace("127.0.0.1:8080", listen[1]))
    libraries = program(".libs")
    command = [*shlex.split(os.environ.get("CC") or setting("CC")), *shlex.split(setting("SANITIZE")), "-Wall", "-Wextra", "-Werror", "-g",
               f"-I{SOURCE}/lib/include", f"-I{SOURCE}/http/include", *options, "service.c", f"-L{libraries}", "-lweft-http", "-lweft",
               "-ljansson", f"-Wl,-rpath,{libraries}"]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    check_equal(result.returncode, 0, f"exit status of the compiler at step {step}, which says:\n{result.stdout}{result.stderr}")


def run_commands(text, environment, address):
    """What the commands print, as in the text: each behind its `$ `."""
    said = ""
    for command in re.findall(r"^\$ (.*)$", text, re.M):
        result = subprocess.run(["bash", "-c", command.replace("127.0.0.1:8080", address)], env=environment, capture_output=True, text=True,
                                timeout=DEADLINE)
        said += f"$ {command}\n{result.stdout}{result.stderr}"
        said += "" if said.endswith("\n") else "\n"  # as a terminal's next line is shown
    return said


def plain(text):
    """Without what differs from run to run, and from directory to directory."""
    text = UUID.sub("UUID", text)
    text = re.sub(r"(defined at )\S*/", r"\1", re.sub(r"(request\.c):\d+", r"\1:LINE", text))
    return re.sub(r"Task-\d+", "Task-N", re.sub(r"took 0\.\d+ seconds", "took 0.3 seconds", text))


def try_step(step):
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as directory, socket.create_server(("127.0.0.1", 0)) as listener:
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        compile_service(directory, step, (f"fd:{listener.fileno()}", address), "-o", "service")
        log = os.path.join(directory, "log")
        with open(log, "w") as file:
            service = subprocess.Popen([os.path.join(directory, "service")], stderr=file, pass_fds=[listener.fileno()],
                                       env={**os.environ, "WEFT_DEBUG": "1"})
        try:
            wanted = expected(step, "run")
            check_equal(run_commands(wanted, os.environ, address), wanted, f"what the commands of step {step} say")
            wanted = plain(expected(step, "said"))
            for line in wanted.splitlines():
                wait_until(lambda line=line: line in plain(read(log)), f"the service of step {step} says '{line}':\n{read(log)}")
        finally:
            service.terminate()
            status = service.wait(DEADLINE)
        check_equal(status, 0, f"exit status of the service after SIGTERM:\n{read(log)}")


for number in range(1, N_STEPS):
    test(f"step {number} compiles, and does what it says")(lambda number=number: try_step(number))


@test("step 6 compiles, and is hosted by weftd, which remembers its requests")
def hosted():
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as directory:
        compile_service(directory, N_STEPS, ("", "127.0.0.1:8080"), "-fPIC", "-shared", "-o", "service.so")
        path = os.path.join(directory, "socket")
        config = (f'workload service {{\n module = "{directory}/service.so"\n args = {{ "unix:{path}" }}\n}}\n')
        with Weftd(config, env={"PATH": BUILD + ":" + os.environ["PATH"]}) as weftd:
            wait_until(lambda: os.path.exists(path), "the service listens")
            for uri in ("/?num=1", "/slow?ms=10"):
                result = subprocess.run(["curl", "-s", "--unix-socket", path, f"http://localhost{uri}"], capture_output=True, text=True)
                check_equal(result.returncode, 0, f"exit status of curl {uri}")
                wait_until(lambda uri=uri: weftd.query("SELECT 1 FROM tasks JOIN context_vars USING (context_id) WHERE var = 'request' AND value = ?",
                                                       "GET " + uri.partition("?")[0]), "the request is in the history")
            environment = {**os.environ, "PATH": BUILD + ":" + os.environ["PATH"]}
            wanted = expected(N_STEPS, "run").replace("weftctl ", f"weftctl -s {weftd.socket} ")
            squeeze = lambda text: re.sub(r" +", " ", text)
            check_equal(squeeze(run_commands(wanted, environment, "")), squeeze(wanted), "what weftctl says of step 6")


run()
