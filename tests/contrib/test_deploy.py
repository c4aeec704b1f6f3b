"""The files of deploy/ say what duly understands, and give it the time that it needs to stop."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from duly.cli import commands
from duly.config import Config
from duly.runtime.process import patience
from tests.acceptance.nodes import ROOT, NodeProcess

DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "duly-worker.service").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PAGE = (ROOT / "docs" / "deploying.md").read_text()


def manifests() -> dict[str, Any]:
    return {found["kind"]: found for found in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


def container() -> dict[str, Any]:
    found: dict[str, Any] = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    return found


def setting(name: str) -> str:
    """A setting of the unit."""
    found = re.search(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    assert found, name
    return found[1]


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def calls() -> dict[str, list[str]]:
    """The arguments of `duly` in each file."""
    docker = [json.loads(rest) for name, rest in instructions() if name in ("ENTRYPOINT", "CMD")]
    return {
        "duly-worker.service": shlex.split(setting("ExecStart"))[1:],
        "Dockerfile": [*docker[0], *docker[1]][1:],
        "kubernetes.yaml": container()["command"][1:],
    }


def parsed(arguments: list[str]) -> dict[str, Any]:
    """What the command line makes of them. Raises what it raises for flags that it does not know."""
    command = commands.get_command(None, arguments[0])  # type: ignore[arg-type]  # it asks for none
    assert command is not None
    return dict(command.make_context("duly", arguments[1:]).params)


@pytest.mark.parametrize("file", ["duly-worker.service", "Dockerfile", "kubernetes.yaml"])
def test_the_command_line_knows_each_flag_of_the_files(file: str) -> None:
    params = parsed(calls()[file])
    assert params["target"] == "app:scheduler"
    assert params["grace"] == 20


def test_commands_of_the_page_are_known_too() -> None:
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    found = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("duly ")]
    assert len(found) >= 2
    for arguments in found:
        parsed(arguments)


def test_each_file_gives_a_worker_the_time_that_its_stop_may_take() -> None:
    needed = patience(Config(grace=20))
    assert int(setting("TimeoutStopSec")) > needed
    assert manifests()["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > needed
    stop = re.search(r"--stop-timeout (\d+)", DOCKERFILE)
    assert stop
    assert int(stop[1]) > needed
    assert f"{needed:g} s" in PAGE


def test_the_probes_ask_where_the_worker_answers() -> None:
    found = container()
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    assert str(ports["metrics"]) in found["command"]
    probes = {name: found[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in probes.values()} == {"metrics"}
    assert probes["readinessProbe"]["path"] == "/ready"
    assert {probes["livenessProbe"]["path"], probes["startupProbe"]["path"]} == {"/live"}
    assert "lifecycle" not in found  # SIGTERM is the request to stop


def test_a_worker_started_as_the_manifest_says_answers_the_probes(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from duly import Scheduler\nscheduler = Scheduler('sqlite:///duly.db')\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [str(port) if word == "9100" else word for word in container()["command"][1:]]
    arguments = ["127.0.0.1" if word == "0.0.0.0" else word for word in arguments]
    worker = NodeProcess(tmp_path / "log", "-m", "duly", *arguments, cwd=tmp_path)
    try:
        worker.start().is_up()
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            http = HTTPConnection("127.0.0.1", port, timeout=10)
            http.request("GET", container()[name]["httpGet"]["path"])
            answer = http.getresponse()
            assert answer.status == 200, (name, answer.read())
            http.close()
        worker.stop_signal()
        assert worker.wait() == 0
    finally:
        worker.kill()


def test_the_budget_is_that_of_the_deployment() -> None:
    deployment, budget = manifests()["Deployment"], manifests()["PodDisruptionBudget"]
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert (
        deployment["spec"]["selector"]["matchLabels"].items()
        <= deployment["spec"]["template"]["metadata"]["labels"].items()
    )


def test_the_image_starts_no_shell_and_is_not_run_by_root() -> None:
    for name, rest in instructions():
        if name in ("RUN", "CMD", "ENTRYPOINT"):
            assert isinstance(json.loads(rest), list), f"{name} {rest}"
    users = [rest for name, rest in instructions() if name == "USER"]
    assert users == ["10001"]
    assert [name for name, _ in instructions()].count("FROM") == 2
    assert manifests()["Deployment"]["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == int(users[0])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd")
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "duly-worker.service"
    unit.write_text(UNIT.replace(setting("ExecStart").split()[0], sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=30, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "duly-worker" in line]
    assert (done.returncode, ours) == (0, []), done.stderr
