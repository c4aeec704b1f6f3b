"""The example of the Rust Distributed Scheduler, on each driver, as processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.nodes import ROOT, NodeProcess
from tests.waiting import eventually

EXAMPLE = ROOT / "examples" / "from_distributed_scheduler.py"


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("local", ""),
        pytest.param("redis", "redis_url", marks=[pytest.mark.server, pytest.mark.redis]),
        pytest.param("redis-zset", "redis_url", marks=[pytest.mark.server, pytest.mark.redis]),
        pytest.param("etcd", "etcd_url", marks=[pytest.mark.server]),
    ],
)
async def test_each_second_is_run_by_one_process_and_goes_on_in_the_other(
    kind: str, where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue(where) if where else ""
    count = 1 if kind == "local" else 2
    nodes = [NodeProcess(tmp_path / f"{n}.log", str(EXAMPLE), kind, url).start() for n in range(count)]

    def seconds() -> list[int]:
        return [int(second) for node in nodes for second in re.findall(r"every second: (\d+)", node.output)]

    try:
        await eventually(lambda: len(seconds()) >= 2, 20)
        if count > 1:
            await eventually(lambda: f"has {count} node(s)" in "".join(node.output for node in nodes), 20)
            busy = next(node for node in nodes if "every second" in node.output)
            before = len(seconds())
            busy.kill()
            await eventually(lambda: len(seconds()) >= before + 2, 20)
        found = seconds()
        assert len(found) == len(set(found))
        assert sorted(found) == list(range(min(found), max(found) + 1))
    finally:
        for node in nodes:
            node.kill()
