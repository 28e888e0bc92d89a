#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Varlink clients that share no code with weft talk to weftd: Debian's Go library, and the one of the harness."""

import os
import re

from harness import *


@test("the Go library of Debian gets GetInfo, the interface's description, and the tasks")
def go_client():
    library = "/usr/share/gocode/src/github.com/varlink/go/varlink"
    if not shutil.which("go") or not os.path.isdir(library):
        raise Skip("golang-go or golang-github-varlink-go-dev is not installed")
    with Weftd(NAPS) as weftd:
        weftd.running("naps")
        client = os.path.join(weftd.directory, "client")
        env = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOPROXY": "off", "CGO_ENABLED": "0"}
        env.setdefault("GOCACHE", os.path.join(tempfile.gettempdir(), f"weft-go-cache-{os.geteuid()}"))
        built = subprocess.run(["go", "build", "-o", client, os.path.join(SOURCE, "tests/system/varlink-go/main.go")],
                               capture_output=True, text=True, env=env)
        check_equal(built.returncode, 0, f"exit status of go build, which says:\n{built.stderr}")
        wait_until(lambda: len(weftd.tasks("naps")) > 2, "there are tasks")
        result = subprocess.run([client, f"unix:{weftd.socket}"], capture_output=True, text=True, timeout=60)
        print("".join(f"# {line}\n" for line in result.stdout.splitlines()), end="")
        check_equal(result.returncode, 0, f"exit status of the client, which says:\n{result.stdout}{result.stderr}")
        check_equal(len(re.findall("^ok ", result.stdout, re.M)), 4, "steps that the client did")


@test("GetInfo names both interfaces, and each description begins with its own")
def service_interface():
    with Weftd("") as weftd, Varlink(weftd.socket) as client:
        info = client.call("org.varlink.service.GetInfo")["parameters"]
        check_equal(sorted(info["interfaces"]), ["io.weft.Control", "org.varlink.service"], "interfaces")
        for key in ("vendor", "product", "version", "url"):
            check(isinstance(info[key], str) and (info[key] or key == "url"), f"GetInfo has no {key}: {info}")
        for name in info["interfaces"]:
            reply = client.call("org.varlink.service.GetInterfaceDescription", {"interface": name})
            check(re.search(rf"^interface {re.escape(name)}$", reply["parameters"]["description"], re.M), f"description of {name}")
        with open(os.path.join(SOURCE, "daemon/io.weft.Control.varlink")) as file:
            description = client.call("org.varlink.service.GetInterfaceDescription", {"interface": "io.weft.Control"})
            check_equal(description["parameters"]["description"].strip(), file.read().strip(), "the description")


@test("every reply of io.weft.Control has the fields that the description promises")
def replies_match():
    with Weftd(NAPS) as weftd, Varlink(weftd.socket) as client:
        weftd.running("naps")
        types = described_types()
        status = client.call("io.weft.Control.Status")["parameters"]
        for workload in status["workloads"]:
            check_fields("Workload", workload, types)
        check(status["loops"], "no loops")
        for loop in status["loops"]:
            check_fields("Loop", loop, types)
        check_fields("Recorder", status["recorder"], types)
        task = client.call("io.weft.Control.GetTask", {"id": "naps/1"})["parameters"]
        check_fields("Task", task["task"], types)
        for variable in task["context"]:
            check_fields("Variable", variable, types)


def described_types():
    """{type: {field: description}} of the description file."""
    with open(os.path.join(SOURCE, "daemon/io.weft.Control.varlink")) as file:
        text = re.sub(r"#.*", "", file.read())
    types = {}
    for name, body in re.findall(r"^type (\w+) \((.*?)^\)", text, re.M | re.S):
        types[name] = {field: kind for field, kind in re.findall(r"(\w+): ([^\n]+?),?\s*$", body, re.M)}
    return types


def check_fields(kind, value, types):
    simple = {"string": str, "int": int, "bool": bool, "float": (int, float)}
    for field, description in types[kind].items():
        optional = description.startswith("?")
        description = description.lstrip("?")
        if value.get(field) is None:
            check(optional, f"{kind}.{field} is missing: {value}")
        elif description in simple:
            check(isinstance(value[field], simple[description]) and (description == "bool") == isinstance(value[field], bool),
                  f"{kind}.{field} is no {description}: {value[field]!r}")
        elif description.startswith("("):
            check(value[field] in description.strip("()").split(", "), f"{kind}.{field} is {value[field]!r}, not of {description}")
    check_equal(sorted(set(value) - set(types[kind])), [], f"fields of {kind} that nothing describes")


run()
