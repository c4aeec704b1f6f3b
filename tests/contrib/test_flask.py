"""duly in Flask: its settings, an app context around each run, `flask duly`."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, g, has_app_context

from duly import ConfigurationError, InvalidOption, Scheduler
from duly.contrib.flask import get_scheduler, init_app
from tests.acceptance.nodes import ROOT, NodeProcess, until
from tests.cli.conftest import ENVIRONMENT
from tests.schedulers import running, shared

EXAMPLE = ROOT / "examples" / "flask_app.py"


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler(shared("memory://"), poll=0.1)
    yield scheduler
    scheduler.sync.close()


@pytest.fixture
def app(scheduler: Scheduler) -> Flask:
    app = Flask("shop")
    init_app(app, scheduler)
    return app


async def test_each_run_has_an_app_context_of_its_own_which_is_torn_down_in_its_thread(
    app: Flask, scheduler: Scheduler
) -> None:
    torn_down: list[tuple[int, int]] = []

    @app.teardown_appcontext
    def tear_down(_error: BaseException | None) -> None:
        torn_down.append((g.order, threading.get_ident()))

    def look(order: int) -> tuple[str, bool, int]:
        fresh = "order" not in g
        g.order = order
        return current_app.name, fresh, threading.get_ident()

    task = scheduler.task(name="look", keep_result=True)(look)
    async with running(scheduler):
        for order in (1, 2):
            name, fresh, thread = await (await task.push(order)).result(10)
            assert (name, fresh) == ("shop", True)
            assert torn_down[-1] == (order, thread)
            assert thread != threading.get_ident()
    assert len(torn_down) == 2


async def test_async_handlers_and_those_declared_before_have_one_too() -> None:
    scheduler = Scheduler(shared("memory://"), poll=0.1)

    async def name_async() -> str:
        return str(current_app.name)

    def name_plain() -> str:
        return str(current_app.name)

    tasks = [scheduler.task(keep_result=True)(fn) for fn in (name_async, name_plain)]
    init_app(Flask("shop"), scheduler)
    scheduler.bind("bound", name_plain, keep_result=True)
    async with running(scheduler):
        assert [await (await task.push()).result(10) for task in tasks] == ["shop", "shop"]
        assert await (await scheduler.push("bound")).result(10) == "shop"


def test_a_direct_call_of_a_task_is_an_ordinary_call(app: Flask, scheduler: Scheduler) -> None:
    task = scheduler.task(name="look")(has_app_context)
    assert task() is False
    with app.app_context():
        g.order = 1
        assert scheduler.task(name="order")(lambda: g.order)() == 1


async def test_of_two_applications_with_one_scheduler_the_last_one_counts(app: Flask, scheduler: Scheduler) -> None:
    init_app(Flask("second"), scheduler)
    seen: list[str] = []

    @scheduler.task(name="look", keep_result=True)
    def look() -> None:
        seen.append(current_app.name)

    async with running(scheduler):
        await (await look.push()).result(10)
    assert seen == ["second"]


def test_settings_come_from_the_configuration_of_the_application(scheduler: Scheduler, tmp_path: Path) -> None:
    def app(**config: Any) -> Flask:
        app = Flask("shop")
        app.config.update(config)
        return app

    given = {"DULY_URL": f"sqlite:///{tmp_path}/duly.db", "DULY_NAMESPACE": "shop", "DULY_CONCURRENCY": 7}
    first = app(**given)
    init_app(first, scheduler)
    assert get_scheduler(first) is scheduler
    assert (scheduler.config.namespace, scheduler.config.concurrency) == ("shop", 7)
    assert scheduler.store.url == given["DULY_URL"]
    scheduler.sync.queues.sizes()
    init_app(app(**given), scheduler)  # connected, and nothing to change
    with pytest.raises(ConfigurationError, match=r"no setting DULY_NAMESPAC; did you mean 'NAMESPACE'"):
        init_app(app(DULY_NAMESPAC="shop"), Scheduler("memory://"))
    with pytest.raises(InvalidOption, match="concurrency=0"):
        init_app(app(DULY_CONCURRENCY=0), Scheduler("memory://"))
    with pytest.raises(ConfigurationError, match=r"init_app\(app, scheduler\)"):
        get_scheduler(app())


def flask(*arguments: str, cwd: Path, app: Path | str = EXAMPLE, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", str(app), "duly", *arguments],
        cwd=cwd, env={**ENVIRONMENT, **env}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "processes", [(), pytest.param(("--processes", "1"), marks=[pytest.mark.server, pytest.mark.redis])]
)
def test_the_example_pushes_in_a_request_and_flask_duly_worker_runs_it(
    processes: tuple[str, ...], request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue("redis_url") if processes else f"sqlite:///{tmp_path}/duly.db"
    env = {"DULY_URL": url, "SHOP_DATABASE": str(tmp_path / "shop.db")}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    arguments = ["-m", "flask", "--app", str(EXAMPLE), "duly", "worker", *processes]
    worker = NodeProcess(tmp_path / "worker.log", *arguments, env=env, cwd=tmp_path).start()
    example = runpy.run_path(str(EXAMPLE), run_name="flask_app")
    client = example["create_app"]().test_client()
    try:
        worker.is_up()
        assert client.post("/orders/7/pay").json == {"job": "receipt:7", "answer": "created"}
        until(lambda: client.get("/orders/7").json == {"receipt": "receipt for order 7"}, 15)
        nodes = json.loads(flask("nodes", "--json", cwd=tmp_path, **env).stdout)
        assert "shop" in json.dumps(nodes)
        worker.stop_signal()
        assert worker.wait() == 0
    finally:
        example["scheduler"].sync.close()
        worker.kill()


def test_flask_duly_says_its_own_name_and_its_errors_in_one_line(tmp_path: Path) -> None:
    shown = flask("jobs", "list", "--help", cwd=tmp_path)
    assert (shown.returncode, shown.stdout.splitlines()[0]) == (0, "Usage: python -m flask duly jobs list [OPTIONS]")
    refused = flask("wroker", cwd=tmp_path)
    assert (refused.returncode, refused.stderr) == (2, "duly: there is no command 'wroker'; did you mean 'worker'?\n")


def test_a_child_process_has_an_app_context_if_the_module_of_its_handler_makes_the_application(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from flask import Flask, current_app\n"
        "from duly import Scheduler\n"
        "from duly.contrib.flask import init_app\n"
        "app, scheduler = Flask('shop'), Scheduler('sqlite:///duly.db')\n"
        "init_app(app, scheduler)\n"
        "@scheduler.task(executor='process', keep_result=True)\n"
        "def name() -> str:\n"
        "    return current_app.name\n"
    )
    worker = NodeProcess(tmp_path / "log", "-m", "flask", "--app", "shop", "duly", "worker", cwd=tmp_path).start()
    try:
        worker.is_up()
        said = flask("push", "name", "--wait", "20", "--json", cwd=tmp_path, app="shop")
        assert said.returncode == 0, said.stderr + worker.output
        assert '"shop"' in said.stdout
    finally:
        worker.kill()
