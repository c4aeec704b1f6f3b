"""How fast the embedded SQLite store is, each figure beside huey's SqliteHuey and APScheduler's SQLAlchemy store.

    python benchmarks/embedded.py [--jobs 30000] [--rounds 3] [--folder DIR] [--json]

All in one run, at their defaults, on files of their own in DIR (a temporary folder). duly keeps its promises meanwhile: leases,
fences, settlements, at least once; huey and APScheduler take a job out of their file before they run it, and have no
settlement to be measured. huey's best of one and of four worker threads counts. Figures of shared machines are noisy: read the
ratios, and the medians.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huey
from throughput import percentile, push_bulk, push_concurrent, push_single, push_to_start, run, run_jobs

logging.getLogger("huey").setLevel(logging.WARNING)
APSCHEDULER_JOBS = 2_000
COMPARE = Path(__file__).parent / "compare"
SAID = {
    "async no-op jobs": "no-op jobs, one worker process",
    "push_many": "pushes in bulk (the others: one by one)",
    "push by gather": "pushes awaited together (the others: one by one)",
    "push one by one": "pushes one by one",
}


# --- huey ------------------------------------------------------------------------------------------------------------


def huey_push(path: str, count: int) -> float:
    app = huey.SqliteHuey(filename=path)

    @app.task()
    def noop(number: int) -> None: ...

    noop(0)
    began = time.perf_counter()
    for i in range(count):
        noop(i)
    return count / (time.perf_counter() - began)


def huey_jobs(path: str, count: int, workers: int) -> float:
    """Jobs per second over a backlog of `count`."""
    app = huey.SqliteHuey(filename=path)
    done, ended, numbers = threading.Event(), 0, itertools.count(1)

    @app.task()
    def noop(number: int) -> None:
        nonlocal ended
        ended = next(numbers)
        if ended >= count:
            done.set()

    for i in range(count):
        noop(i)
    consumer = app.create_consumer(workers=workers, periodic=False, initial_delay=0.001)
    began = time.perf_counter()
    consumer.start()
    done.wait()
    rate = count / (time.perf_counter() - began)
    consumer.stop(graceful=True)
    return rate


def huey_push_to_start(path: str, count: int) -> list[float]:
    """Milliseconds from the push to the start of the task in an idle consumer process."""
    app = _started_app(path)
    command = [sys.executable, __file__, "--role", path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # it is ready
    lags = []
    for _ in range(count):
        time.sleep(0.01)
        sent = time.time()
        app[1]()
        lags.append((float(process.stdout.readline()) - sent) * 1000)
    process.terminate()
    process.wait()
    return lags


def _started_app(path: str) -> tuple[Any, Any]:
    app = huey.SqliteHuey(filename=path)

    @app.task()
    def started() -> None:
        print(time.time(), flush=True)

    return app, started


def be_huey_consumer(path: str) -> None:
    consumer = _started_app(path)[0].create_consumer(periodic=False)
    print("ready", flush=True)
    consumer.run()


# --- APScheduler ------------------------------------------------------------------------------------------------------


def apscheduler(path: str, count: int) -> dict[str, float]:
    """In the environment of the comparison with other systems, which is made when it is missing."""
    sys.path.insert(0, str(COMPARE))
    from environments import ensure, peers  # type: ignore[import-not-found]

    peer = peers()["apscheduler"]
    ensure(peer)
    command = [peer.python, COMPARE / "apscheduler_sqlite.py", path, str(count)]
    figures: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return figures


# --- all -------------------------------------------------------------------------------------------------------------


def files(folder: Path) -> Iterator[str]:
    """A fresh file for each figure, the last ones removed."""
    for number in itertools.count():
        for old in folder.iterdir():
            old.unlink()
        yield str(folder / f"bench{number}.db")


def one_round(fresh: Iterator[str], jobs: int, lags: list[float]) -> dict[str, tuple[float, float, float]]:
    """Each figure of duly, of huey and of APScheduler, in turns."""

    def url() -> str:
        return f"sqlite:///{next(fresh)}"

    pushed = huey_push(next(fresh), jobs // 3)
    added = apscheduler(next(fresh), APSCHEDULER_JOBS)
    return {
        "async no-op jobs": (
            run(lambda: run_jobs(url(), jobs, "async", lags)),
            max(huey_jobs(next(fresh), jobs // 6, workers) for workers in (1, 4)),
            added["jobs"],
        ),
        "push_many": (run(lambda: push_bulk(url(), jobs)), pushed, added["push one by one"]),
        "push by gather": (run(lambda: push_concurrent(url(), jobs)), pushed, added["push one by one"]),
        "push one by one": (run(lambda: push_single(url(), 4_000)), pushed, added["push one by one"]),
    }


def measure(folder: Path, jobs: int, rounds: int) -> dict[str, Any]:
    fresh, lags = files(folder), list[float]()
    figures = [one_round(fresh, jobs, lags) for _ in range(rounds)]
    starts = run(lambda: push_to_start(f"sqlite:///{next(fresh)}", 150))
    huey_starts = huey_push_to_start(next(fresh), 60)
    return {
        "jobs/s": {
            name: {
                "duly": statistics.median(found[name][0] for found in figures),
                "huey": statistics.median(found[name][1] for found in figures),
                "APScheduler": statistics.median(found[name][2] for found in figures),
                "to huey": statistics.median(found[name][0] / found[name][1] for found in figures),
                "to APScheduler": statistics.median(found[name][0] / found[name][2] for found in figures),
            }
            for name in SAID
        },
        "end to settled ms": {"p50": percentile(lags, 0.5) * 1000, "p99": percentile(lags, 0.99) * 1000},
        "push to start ms": {"p50": percentile(starts, 0.5), "p99": percentile(starts, 0.99)},
        "huey's push to start ms": {"p50": percentile(huey_starts, 0.5), "p99": percentile(huey_starts, 0.99)},
        "versions": {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "huey": huey.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are made; its disk is what is measured")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--role", metavar="PATH", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role is not None:
        be_huey_consumer(options.role)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = measure(Path(folder), options.jobs, options.rounds)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, said in SAID.items():
        found = figures["jobs/s"][name]
        print(f"{said:52} {found['duly']:>9,.0f}/s", end="")
        for other in ("huey", "APScheduler"):
            print(f"   {other} {found[other]:>7,.0f}/s  {found[f'to {other}']:>5.1f} x", end="")
        print()
    for name in ("end to settled ms", "push to start ms", "huey's push to start ms"):
        print(f"{name:52}", "  ".join(f"{k} {v:.2f}" for k, v in figures[name].items()))
    print(", ".join(f"{name} {version}" for name, version in figures["versions"].items()))


if __name__ == "__main__":
    main()
