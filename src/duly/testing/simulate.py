"""Play seeds of the simulation: `python -m duly.testing.simulate --seeds 1000`.

A seed that breaks a promise is printed with what it broke, its last events, and the command that plays it again.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

from duly.clock import SYSTEM_CLOCK
from duly.testing.simulation import Report, simulate
from duly.testing.simulation.plant import PLANTS, planted
from duly.testing.simulation.server import redis_server
from duly.testing.simulation.stores import KINDS

EVENTS = 40
"""How many events of a failing seed are shown."""
SHOWN = 300
"""Characters of an event that are shown."""
MOST_FAILURES = 5
"""Seeds that fail before the rest is left."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a seed broke a promise."""
    options = _parser().parse_args(arguments)
    if options.without and options.store != "memory":
        _parser().error("--without: faults are planted in the memory store only")
    began, jobs, failed, played = SYSTEM_CLOCK.monotonic(), 0, 0, 0
    with contextlib.ExitStack() as stack:
        if options.without:
            stack.enter_context(planted(options.without))
        url = options.url
        if options.store == "redis" and not url:
            url = stack.enter_context(redis_server())
        for seed in range(options.first, options.first + options.seeds):
            report = simulate(seed, options.store, url)
            jobs, played = jobs + report.jobs, played + 1
            if options.events:
                print(*report.lines(), sep="\n")
            if report.faults:
                failed += 1
                _show(report, options)
                if failed == MOST_FAILURES:
                    break
    seconds = max(1e-9, SYSTEM_CLOCK.monotonic() - began)
    print(f"{options.store}: {played:,} seeds, {jobs:,} jobs, {failed} seed(s) failed; {played / seconds:.1f} seeds/s")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m duly.testing.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds are played")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--store", choices=KINDS, default="memory")
    parser.add_argument(
        "--url", default="", help="of a Redis server, ALL of whose data is deleted; else one is started"
    )
    parser.add_argument("--without", choices=PLANTS, help="plant a fault: the rule that is taken out")
    parser.add_argument("--events", action="store_true", help="print every event")
    return parser


def _show(report: Report, options: argparse.Namespace) -> None:
    print(f"seed {report.seed} ({report.store}):", *report.faults[:5], sep="\n  ")
    if len(report.faults) > 5:
        print(f"  and {len(report.faults) - 5} more")
    print(f"  its last {EVENTS} events:", *(line[:SHOWN] for line in report.lines(EVENTS)), sep="\n    ")
    more = f" --url {options.url}" if options.url else ""
    more += f" --without {options.without}" if options.without else ""
    again = f"python -m duly.testing.simulate --store {report.store} --first {report.seed} --seeds 1 --events{more}"
    print(f"  play it again: {again}")


if __name__ == "__main__":
    sys.exit(main())
