"""duly in Django: the example project as processes, and programs that set Django up (once is all that a process can)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duly import Scheduler
from tests.acceptance.nodes import ROOT, NodeProcess, until

PROJECT = ROOT / "examples" / "django_project"
Manage = Callable[..., subprocess.CompletedProcess[str]]
StartWorker = Callable[..., NodeProcess]


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        found: str = request.getfixturevalue("redis_url")
        return found
    return f"sqlite:///{tmp_path}/duly.db"


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SHOP_DATA": str(tmp_path),
        "DULY_URL": f"sqlite:///{tmp_path}/duly.db",
        **more,
    }


@pytest.fixture
def manage(tmp_path: Path) -> Manage:
    """`manage(*arguments, **env)`: manage.py of the example, from another folder than its own."""

    def call(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(PROJECT / "manage.py"), *arguments],
            cwd=tmp_path, env=environment(tmp_path, **env), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return call


@pytest.fixture
def migrated(manage: Manage) -> None:
    done = manage("migrate", "--verbosity", "0")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def start_worker(tmp_path: Path, migrated: None) -> Iterator[StartWorker]:
    started: list[NodeProcess] = []

    def start(*flags: str, **env: str) -> NodeProcess:
        worker = NodeProcess(
            tmp_path / "worker.log", str(PROJECT / "manage.py"), "duly", "worker", *flags,
            env=environment(tmp_path, **env), cwd=tmp_path,
        )  # fmt: skip
        started.append(worker)
        return worker.start().is_up()

    yield start
    for worker in started:
        worker.kill()


def program(text: str, tmp_path: Path, *, settings: str = "settings", **env: str) -> Any:
    """What a program says, as JSON, on the last line of its output."""
    env = environment(
        tmp_path, PYTHONPATH=f"{ROOT / 'src'}:{PROJECT}:{tmp_path}", DJANGO_SETTINGS_MODULE=settings, **env
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", "import asyncio, json\n" + textwrap.dedent(text)],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


BUY = """
    import django
    django.setup()
    from django.test import AsyncClient, Client
    from duly.contrib.django import scheduler
    client = Client(raise_request_exception=False)
"""


@pytest.mark.slow
def test_what_a_view_pushes_at_the_commit_a_worker_runs(url: str, tmp_path: Path, start_worker: StartWorker) -> None:
    worker = start_worker(DULY_URL=url)
    bought = program(BUY + "    print(json.dumps(client.post('/orders/').json()))", tmp_path, DULY_URL=url)
    look = BUY + f"    print(json.dumps(client.get('/orders/{bought['order']}/').json()))"
    until(
        lambda: program(look, tmp_path, DULY_URL=url) == {"receipt": f"receipt for order {bought['order']}"},
        20,
        "the receipt",
    )
    worker.stop_signal()
    assert worker.wait() == 0


@pytest.mark.slow
def test_an_async_view_pushes_and_a_child_process_of_a_supervised_worker_runs_it(
    tmp_path: Path, start_worker: StartWorker
) -> None:
    start_worker("--processes", "1")
    label = """
    async def main():
        order = (await AsyncClient().post('/orders/')).json()['order']
        job = (await AsyncClient().post(f'/orders/{order}/label/')).json()['job']
        print(json.dumps(order))

    asyncio.run(main())
    """
    order = program(BUY + label, tmp_path)
    assert order == 1
    look = BUY + f"    print(json.dumps(client.get('/orders/{order}/').json()))"
    until(lambda: program(look, tmp_path)["receipt"] == f"label for order {order}", 30, "the label")


def test_what_is_pushed_in_a_transaction_that_is_rolled_back_is_not_pushed(tmp_path: Path, migrated: None) -> None:
    said = program(
        BUY
        + """
    from django.db import transaction
    from duly import InvalidArguments
    from duly.contrib.django import push_on_commit
    from shop.tasks import send_receipt

    def pending():
        return [job.id for job in scheduler.sync.jobs.list("pending")[0]]

    failed = client.post("/orders/?fail=1").status_code
    said = [failed, pending()]
    with transaction.atomic():
        id = push_on_commit(send_receipt.options(delay=60), 1)
        said.append(pending())
        try:
            push_on_commit(send_receipt, 1, 2)
        except InvalidArguments:
            said.append("refused")
    said.append(pending() == [id])
    print(json.dumps(said))
    """,
        tmp_path,
    )
    assert said == [500, [], [], "refused", True]


RUN_TWICE = """
    import django
    django.setup()
    from asgiref.sync import sync_to_async
    from django.db import connection
    from duly import Scheduler
    from duly.contrib.django import scheduler

    def look():
        was_closed = connection.connection is None
        connection.cursor().execute("SELECT 1")
        return was_closed

    async def look_async():
        return await sync_to_async(look)()

    tasks = [scheduler.task(keep_result=True)(fn) for fn in (look, look_async)]

    async def main():
        await scheduler.start()
        found = [await (await task.push()).result(10) for task in tasks for _ in range(2)]
        await scheduler.stop()
        print(json.dumps(found))

    asyncio.run(main())
"""


def test_a_run_leaves_no_database_connection_behind_and_begins_with_a_sound_one(tmp_path: Path) -> None:
    assert program(RUN_TWICE, tmp_path) == [True, True, True, True]


def test_old_connections_are_closed_before_and_after_a_run_in_its_own_thread(tmp_path: Path) -> None:
    said = program(
        """
    import threading
    import django, django.db
    django.setup()
    from asgiref.sync import sync_to_async
    from duly.contrib.django import scheduler
    said = []

    def note(what):
        said.append((what, threading.current_thread().name))

    def look():
        note("run")
        raise ValueError

    async def look_async():
        await sync_to_async(note)("run")

    django.db.close_old_connections = lambda: note("close")
    tasks = [scheduler.task(retry=False)(fn) for fn in (look, look_async)]

    async def main():
        await scheduler.start()
        for task in tasks:
            job = await task.push()
            while await job.status() not in ("ended", "dead"):
                await asyncio.sleep(0.01)
        await scheduler.stop()

    asyncio.run(main())
    plain, with_await = said[:3], said[3:]
    print(json.dumps([[what for what, _ in part] + [len({thread for _, thread in part})] for part in (plain, with_await)]))
    """,
        tmp_path,
    )
    assert said == [["close", "run", "close", 1], ["close", "run", 1]]


def test_in_tests_jobs_run_in_place_see_the_transaction_that_they_are_pushed_in(tmp_path: Path, migrated: None) -> None:
    said = program(
        BUY
        + """
    from django.db import connection, transaction
    from duly.testing import eager
    from shop.models import Order
    from shop.tasks import send_receipt

    with eager(scheduler), transaction.atomic():
        order = Order.objects.create()
        send_receipt.push_sync(order.pk)
        order.refresh_from_db()
        print(json.dumps([order.receipt, connection.connection is not None]))
    """,
        tmp_path,
    )
    assert said == ["receipt for order 1", True]


def test_a_direct_call_of_a_task_keeps_the_callers_connection(tmp_path: Path) -> None:
    said = program(
        """
    import django
    django.setup()
    from django.db import connection
    from duly.contrib.django import scheduler

    @scheduler.task
    def look():
        connection.cursor().execute("SELECT 1")

    look()
    print(json.dumps(connection.connection is not None))
    """,
        tmp_path,
    )
    assert said is True


@pytest.mark.slow
def test_manage_py_duly_is_the_command_line_with_the_projects_scheduler(manage: Manage, tmp_path: Path) -> None:
    missing = manage("duly", "jobs", "--json")
    assert (missing.returncode, "there is no file" in missing.stderr) == (1, True)

    program(BUY + "    print(json.dumps(scheduler.sync.queues.list()))", tmp_path)
    found = manage("duly", "jobs", "--json")
    assert (found.returncode, json.loads(found.stdout)) == (0, []), found.stderr
    assert manage("duly", "jobs", "list", "--help").stdout.startswith("Usage: manage.py duly jobs list")
    assert manage("help", "duly").stdout.startswith("Usage: manage.py duly [OPTIONS]")
    refused = manage("duly", "wroker")
    assert (refused.returncode, refused.stderr) == (2, "duly: there is no command 'wroker'; did you mean 'worker'?\n")


def test_call_command_returns_and_raises_as_djangos_own_do(tmp_path: Path) -> None:
    said = program(
        BUY
        + """
    from django.core.management import CommandError, call_command
    call_command("duly", "next", "0 0 * * *")
    try:
        call_command("duly", "next", "never")
    except CommandError as error:
        print(json.dumps([str(error), error.returncode]))
    """,
        tmp_path,
    )
    assert said == ["duly ended with exit code 2", 2]


def test_a_worker_finds_the_project_without_manage_py_and_keeps_its_schedules(tmp_path: Path) -> None:
    env = environment(tmp_path, PYTHONPATH=f"{ROOT / 'src'}:{PROJECT}", DJANGO_SETTINGS_MODULE="settings")
    target = "duly.contrib.django.outside:scheduler"
    worker = NodeProcess(tmp_path / "log", "-m", "duly", "worker", target, env=env, cwd=tmp_path)
    try:
        worker.start().is_up()
        with Scheduler(env["DULY_URL"]).sync as sync:
            schedule = until(lambda: sync.schedules.get("forget_empty_orders"), 10)
        assert schedule.app == "shop"
        worker.stop_signal()
        assert worker.wait() == 0
    finally:
        worker.kill()


@pytest.mark.parametrize(
    ("duly", "says"),
    [
        ({"URI": "memory://"}, "there is no setting DULY['URI']; did you mean 'URL'?"),
        ("memory://", "the setting DULY is 'memory://': give a dict"),
        ({"SCHEDULER": "json.dumps"}, "DULY['SCHEDULER'] is 'json.dumps', and that is <function dumps"),
        ({"URL": "memory://", "LEASE": 0}, "lease=0"),
    ],
)
def test_a_wrong_setting_is_said_when_django_is_set_up(duly: Any, says: str, tmp_path: Path) -> None:
    said = program(
        f"""
    import django
    from django.conf import settings
    settings.configure(INSTALLED_APPS=["duly.contrib.django"], DULY={duly!r})
    try:
        django.setup()
    except Exception as error:
        print(json.dumps(str(error)))
    """,
        tmp_path,
        settings="",
    )
    assert says in said


def test_a_scheduler_of_the_projects_own_is_taken_with_the_settings_over_it(tmp_path: Path) -> None:
    (tmp_path / "scheduling.py").write_text("from duly import Scheduler\nscheduler = Scheduler('memory://')\n")
    said = program(
        """
    import django
    from django.conf import settings
    duly = {"SCHEDULER": "scheduling.scheduler", "NAMESPACE": "shop"}
    settings.configure(INSTALLED_APPS=["duly.contrib.django"], DULY=duly)
    django.setup()
    import scheduling
    from duly.contrib.django import get_scheduler, scheduler
    print(json.dumps([scheduler is scheduling.scheduler is get_scheduler(), scheduler.config.namespace]))
    """,
        tmp_path,
        settings="",
    )
    assert said == [True, "shop"]


def test_the_migrations_of_the_example_are_those_of_its_models(manage: Manage) -> None:
    done = manage("makemigrations", "--check", "--dry-run")
    assert done.returncode == 0, done.stdout
