"""duly beside its peers, interleaved in one run on one machine: `python benchmarks/compare [--peers …] [--measures …]`.

Each peer works in a virtual environment of its own (made under .peers when it is missing), tuned as its documentation
says, over one Redis that is started for the run and emptied before each measurement. The figures of every round are
written as JSON; `python benchmarks/compare/report.py FILE` makes the tables and plots of docs/benchmarks.md of it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import measures
from environments import HERE, Peer, ensure, peers
from lab import Lab, lab, say
from measures import Figures, guarded

FIRST_GUESS = 1_000.0
"""Jobs per second of a peer of which nothing is known yet."""
ONCE = ("memory", "recovery", "ahead", "idle")
"""Measures that vary little, or last long: they are taken in the first round alone."""


class Comparison:
    """All rounds, and what was found: found[measure][peer] is a list of figures, or of why there are none."""

    def __init__(self, lab: Lab, chosen: list[Peer], jobs_ahead: int) -> None:
        self.lab, self.peers, self.jobs_ahead = lab, chosen, jobs_ahead
        self.found: dict[str, dict[str, list[Figures | str]]] = {}
        self.limits: list[dict[str, float]] = []
        self._rates: dict[tuple[str, str], float] = {}

    def round(self, number: int, chosen: list[str]) -> None:
        """Each measure of each peer, one peer after the other."""
        self.limits.append(self._limits())
        for measure in chosen:
            if number and measure in ONCE:
                continue
            for peer in self.peers:
                self._measure(measure, peer)

    def _limits(self) -> dict[str, float]:
        python = peers()["duly"].python
        done = subprocess.run([python, HERE / "limits.py", self.lab.url], capture_output=True, text=True, check=True)
        figures: dict[str, float] = json.loads(done.stdout)
        say("  ".join(f"{name} {value:,.0f}" for name, value in figures.items()))
        return figures

    def _measure(self, measure: str, peer: Peer) -> None:
        self.lab.fresh()
        figures = guarded(lambda: getattr(self, f"_{measure}")(peer))
        if figures == {}:
            return
        self.found.setdefault(measure, {}).setdefault(peer.name, []).append(figures)
        shown = figures if isinstance(figures, str) else "  ".join(f"{k} {v:,.2f}" for k, v in figures.items())
        say(f"{measure:10} {peer.name:16} {shown}")

    def _rate(self, peer: Peer, kind: str, **options: Any) -> Figures:
        if peer.name == "apscheduler":  # it has no queue of jobs
            return {}
        known = self._rates.get((peer.name, kind))
        if known is None:
            found = measures.rate(self.lab, peer, kind, FIRST_GUESS / measures.SECONDS, **options)
            known = self._rates[peer.name, kind] = found["jobs/s"]
            self.lab.fresh()
        return measures.rate(self.lab, peer, kind, known, **options)

    def _noop(self, peer: Peer) -> Figures:
        return self._rate(peer, "noop")

    def _sync(self, peer: Peer) -> Figures:
        return self._rate(peer, "sync") if peer.name not in ("arq", "docket") else {}

    def _io(self, peer: Peer) -> Figures:
        return self._rate(peer, "io")

    def _cpu(self, peer: Peer) -> Figures:
        """Jobs of 200 us of Python, in one process and in two."""
        if peer.name in ("apscheduler", "rq"):
            return {}
        one = self._rate(peer, "cpu", processes=1)["jobs/s"]
        self.lab.fresh()
        two = self._rate(peer, "cpu", processes=2)["jobs/s"]
        return {"one process/s": one, "two/s": two, "two / one": two / one}

    def _push(self, peer: Peer) -> Figures:
        return measures.pushes(self.lab, peer) if peer.name != "apscheduler" else {}

    def _start(self, peer: Peer) -> Figures:
        return measures.idle_start(self.lab, peer)

    def _idle(self, peer: Peer) -> Figures:
        return measures.idle_cost(self.lab, peer)

    def _late(self, peer: Peer) -> Figures:
        return measures.lateness(self.lab, peer) if self.lab.offers(peer)["at"] else {}

    def _memory(self, peer: Peer) -> Figures:
        return measures.memory(self.lab, peer, self.jobs_ahead) if self.lab.offers(peer)["at"] else {}

    def _ahead(self, peer: Peer) -> Figures:
        """No-op jobs per second, with nothing scheduled and with many jobs of tomorrow (ten times as many for duly)."""
        if not self.lab.offers(peer)["at"] or peer.name == "apscheduler":
            return {}
        figures = {"jobs/s with 0": self._rate(peer, "noop")["jobs/s"]}
        counts = [self.jobs_ahead, 10 * self.jobs_ahead] if peer.name == "duly" else [self.jobs_ahead]
        for count in counts:
            self.lab.fresh()
            measures.schedule_ahead(self.lab, peer, count)
            figures[f"jobs/s with {count:,}"] = self._rate(peer, "noop")["jobs/s"]
        return figures

    def _recovery(self, peer: Peer) -> Figures:
        return measures.recovery(self.lab, peer) if peer.name != "apscheduler" else {}

    def _away(self, peer: Peer) -> Figures:
        if peer.name in ("apscheduler", "rq"):
            return {}
        return measures.far_away(self.lab, peer, self._rates.get((peer.name, "noop"), FIRST_GUESS))


MEASURES = ["noop", "sync", "io", "cpu", "push", "start", "late", "away", "idle", "memory", "ahead", "recovery"]


def machine() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = f"{len(names)} x {names[0]}" if names else platform.processor()
    return {"processor": processor, "system": platform.platform(), "python": platform.python_version()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", choices=list(peers()), default=list(peers()))
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs-ahead", type=int, default=100_000, help="jobs of tomorrow, for memory and `ahead`")
    parser.add_argument("--out", type=Path, default=Path("compare.json"))
    options = parser.parse_args()
    chosen = [peers()[name] for name in options.peers]
    for peer in {"duly": peers()["duly"], **{peer.name: peer for peer in chosen}}.values():
        ensure(peer)
    with lab() as place:
        comparison = Comparison(place, chosen, options.jobs_ahead)
        said: dict[str, Any] = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine() | {"redis": place.client.info("server")["redis_version"]},
            "peers": {peer.name: {"versions": peer.versions(), "promise": peer.promise} for peer in chosen},
        }
        for number in range(options.rounds):
            began = time.monotonic()
            comparison.round(number, options.measures)
            said |= {"limits": comparison.limits, "found": comparison.found}
            options.out.write_text(json.dumps(said, indent=1))
            say(f"round {number + 1} of {options.rounds}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
