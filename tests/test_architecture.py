"""duly keeps its layout, and the checker that says so sees each thing it looks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import architecture
from tests.architecture import RULES, Rule, Source, check

ROOT = Path(__file__).parent.parent / "src" / "duly"
DOC = '"""A file."""\n'


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_duly_keeps_its_architecture(rule: Rule) -> None:
    source = Source.read(ROOT)
    assert "duly.errors" in source.names
    complaints = check(source, rule)
    assert not complaints, "\n".join(["", *complaints])


def lines(count: int) -> str:
    return "".join(f"    x = {number}\n" for number in range(count))


def function(count: int, comment: str = "") -> str:
    """A function of this many lines."""
    return f"def f() -> None:{comment}\n{lines(count - 1)}"


def constructor(count: int, comment: str = "", class_comment: str = "") -> str:
    arguments = "".join(f", a{number}" for number in range(count))
    return f"class C:{class_comment}\n    def __init__(self{arguments}):{comment}\n        pass\n"


IMPORTS_B, IMPORTS_A = "    from . import b", "from . import a"
HEADER = "-- Takes jobs.\n-- KEYS: 1 jobs\n-- ARGV: none\n-- Returns: a list\nreturn {}\n"

# rule, files that break it, a part of the complaint
BROKEN = [
    ("imports_go_down", {"core/job.py": "from duly.stores.base import Store"}, "core/job.py:1: imports duly.stores"),
    ("imports_go_down", {"core/job.py": "from ..stores import base"}, "imports duly.stores.base"),
    ("imports_go_down", {"core/__init__.py": "from ..runtime import loop"}, "imports duly.runtime.loop"),
    ("imports_go_down", {"errors.py": "import duly.core.job"}, "imports duly.core.job"),
    ("imports_go_down", {"stores/memory.py": "def f():\n    import duly.runtime.loop"}, "stores/memory.py:2"),
    ("imports_go_down", {"runtime/loop.py": "if TYPE_CHECKING:\n    from duly import scheduler"}, "duly.scheduler"),
    ("imports_go_down", {"runtime/loop.py": "from duly import Scheduler"}, "imports duly.Scheduler"),
    ("imports_go_down", {"scheduler.py": "import duly"}, "imports duly, which"),
    ("imports_go_down", {"task.py": "from duly.testing import ManualClock"}, "which stands above task"),
    ("imports_go_down", {"helpers.py": ""}, "'helpers' has no layer"),
    ("no_import_cycle", {"core/a.py": "import duly.core.b", "core/b.py": "from .a import x"}, "duly.core.a <- "),
    ("no_import_cycle", {"core/a.py": f"try:\n{IMPORTS_B}\nexcept E: pass", "core/b.py": IMPORTS_A}, "core.b"),
    ("no_import_cycle", {"core/a.py": f"try:\n    pass\nexcept E:\n{IMPORTS_B}", "core/b.py": IMPORTS_A}, "core.b"),
    ("no_import_cycle", {"core/a.py": f"class A:\n{IMPORTS_B}", "core/b.py": IMPORTS_A}, "core.b"),
    ("core_is_pure", {"core/job.py": "import asyncio"}, "core imports asyncio"),
    ("core_is_pure", {"core/job.py": "import os.path as p"}, "core imports os"),
    ("core_is_pure", {"core/job.py": "def f():\n    from redis.asyncio import R"}, "core/job.py:2: core imports redis"),
    ("core_is_pure", {"core/job.py": "from ..clock import Clock"}, "core imports duly.clock"),
    ("core_is_pure", {"core/job.py": "async def f(): pass"}, "core has no async code"),
    ("core_is_pure", {"core/job.py": "async def f():\n    await g()"}, "core/job.py:2: core has no async code"),
    ("core_is_pure", {"core/job.py": "from uuid import uuid4 as new\nid = new()"}, "core/job.py:2: core uses chance"),
    ("only_clock_reads_clocks", {"task.py": "import time\nx = time.time()"}, "task.py:2: reads a clock: time.time"),
    ("only_clock_reads_clocks", {"task.py": "import time as t\ndef f(now=t.monotonic): pass"}, "time.monotonic"),
    ("only_clock_reads_clocks", {"task.py": "from time import perf_counter_ns as p\np()"}, "time.perf_counter_ns"),
    ("only_clock_reads_clocks", {"task.py": "from datetime import datetime, UTC\ndatetime.now(UTC)"}, "datetime.now"),
    ("only_clock_reads_clocks", {"task.py": "import datetime as dt\ndt.datetime.utcnow()"}, "datetime.utcnow"),
    ("only_clock_reads_clocks", {"runtime/a.py": "import asyncio\nasyncio.get_running_loop().time()"}, "loop().time"),
    ("only_clock_reads_clocks", {"runtime/a.py": "self._loop.time()"}, "self._loop.time"),
    ("only_clock_reads_clocks", {"runtime/clock.py": "import time\ntime.time()"}, "runtime/clock.py:2"),
    ("functions_are_short", {"task.py": function(51)}, "task.py:1: f has 51 lines"),
    ("functions_are_short", {"task.py": "async " + function(51)}, "f has 51 lines"),
    ("functions_are_short", {"task.py": function(51, "  # architecture:")}, "f has 51 lines"),
    ("functions_are_short", {"task.py": "class A:\n    def g():\n" + lines(50).replace("  ", "    ")}, "g has 51"),
    ("files_are_short", {"task.py": "x = 1\n" * 401}, "has 401 lines"),
    ("files_are_short", {"task.py": "x = 1\n" * 401 + "# architecture: too late"}, "has 402 lines"),
    ("constructors_are_narrow", {"task.py": constructor(8)}, "task.py:2: C takes 8 arguments"),
    ("constructors_are_narrow", {"task.py": constructor(8).replace(", a0", ", *, a0")}, "C takes 8 arguments"),
    ("files_open_with_a_docstring", {"task.py": "x = 1"}, "task.py: opens without"),
    ("files_open_with_a_docstring", {"core/__init__.py": ""}, "core/__init__.py: opens without"),
    ("scripts_have_headers", {"stores/redis/lua/claim.lua": HEADER.replace("KEYS", "keys")}, "`-- KEYS`"),
    ("scripts_have_headers", {"stores/redis/lua/claim.lua": HEADER.replace("-- ARGV", "--")}, "`-- ARGV`"),
    ("scripts_have_headers", {"stores/redis/lua/claim.lua": "local x = 1\n" + HEADER}, "`-- Returns`"),
]  # fmt: skip

# rule, files that keep it though they look near to breaking it
KEPT = [
    ("imports_go_down", {"__init__.py": "from duly.cli import main\nfrom .scheduler import Scheduler"}),
    ("imports_go_down", {"cli/main.py": "import duly\nfrom duly import Scheduler\nfrom duly.testing import x"}),
    ("imports_go_down", {"runtime/a.py": "from ..stores import base\nfrom . import b\nimport asyncio, dulylike.task"}),
    ("imports_go_down", {"clock.py": "from duly.errors import E", "errors.py": ""}),
    ("no_import_cycle", {"core/a.py": "if TYPE_CHECKING:\n    from . import b", "core/b.py": "from . import a"}),
    ("no_import_cycle", {"core/a.py": "def f():\n    from . import b", "core/b.py": "from . import a"}),
    ("no_import_cycle", {"core/__init__.py": "from .a import x", "core/a.py": "from .b import y", "core/b.py": ""}),
    ("core_is_pure", {"core/job.py": "import hashlib, struct, zoneinfo, uuid\nfrom datetime import datetime"}),
    ("core_is_pure", {"core/job.py": "import oslo, timeit\nfrom ..errors import E\nuuid.UUID(int=1)"}),
    ("core_is_pure", {"stores/redis/client.py": "import asyncio\nasync def f():\n    await g()"}),
    ("only_clock_reads_clocks", {"clock.py": "import time\ntime.time()"}),
    ("only_clock_reads_clocks", {"task.py": "import time\ntime.sleep(1)\nclock.time()\nmoment.time()\nclock.now()"}),
    ("functions_are_short", {"task.py": function(50)}),
    ("functions_are_short", {"task.py": function(51, "  # architecture: one table, read from top to bottom")}),
    ("functions_are_short", {"task.py": 'def f():\n    """' + "x\n" * 9 + '"""\n' + lines(49)}),
    ("files_are_short", {"task.py": "x = 1\n" * 400}),
    ("files_are_short", {"task.py": DOC + "# architecture: the contract in one file\n" + "x = 1\n" * 400}),
    ("constructors_are_narrow", {"task.py": constructor(7)}),
    ("constructors_are_narrow", {"task.py": constructor(8, "  # architecture: they come as one")}),
    ("constructors_are_narrow", {"task.py": constructor(8, class_comment="  # architecture: they come as one")}),
    ("constructors_are_narrow", {"task.py": constructor(9).replace("__init__", "put")}),
    ("files_open_with_a_docstring", {"core/__init__.py": DOC, "stores/redis/lua/claim.lua": ""}),
    ("scripts_have_headers", {"stores/redis/lua/claim.lua": HEADER, "stores/redis/lua/lib/part.lua": ""}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "files", "complaint"), BROKEN)
def test_a_broken_rule_is_seen(rule: str, files: dict[str, str], complaint: str) -> None:
    complaints = check(Source(files), getattr(architecture, rule))
    assert [text for text in complaints if complaint in text], complaints


@pytest.mark.parametrize(("rule", "files"), KEPT)
def test_a_kept_rule_brings_no_complaint(rule: str, files: dict[str, str]) -> None:
    assert check(Source(files), getattr(architecture, rule)) == []


def test_every_rule_is_shown_broken_and_kept() -> None:
    names = {rule.__name__ for rule in RULES}
    assert names == {rule for rule, *_ in BROKEN} == {rule for rule, *_ in KEPT}


def test_all_rules_are_asked_if_none_is_named() -> None:
    assert len(check(Source({"core/job.py": "import time\ntime.time()"}))) == 3
