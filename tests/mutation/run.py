"""The program: `python -m tests.mutation.run [--store redis|sqlite] [--only FILE] [--jobs N]`; 1 if a mutant survives.

Every mutant of the stores' scripts and SQL is run against the conformance suites, and those that survive them against
the rest of the stores' tests: repair after evictions, a full server, the model. src and tests are copied once per worker
when it begins. What survives has to be explained in explained.toml: why no caller that keeps to the contract could tell
it from the product.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutation.mutants import STORES, Mutant, mutants_of, paths

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Verdict(NamedTuple):
    """What became of a mutant. found: the test that failed, or None. why: of an explained survivor."""

    mutant: Mutant
    found: str | None
    invalid: str = ""
    why: str = ""

    @property
    def kind(self) -> str:
        if self.invalid:
            return "invalid"
        if self.found:
            return "found"
        return "explained" if self.why else "survived"


class Worker:
    """One process, in a copy of the tree of its own."""

    def __init__(self, root: Path, store: str, log: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.worker", store],
            cwd=root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("ab"),
            text=True,
        )
        self.read()

    def ask(self, mutant: Mutant, phase: str, first: Sequence[str] = ()) -> dict[str, Any]:
        assert self.process.stdin is not None
        request = {"path": mutant.file, "source": mutant.source, "phase": phase, "first": list(first)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the worker ended: see its log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Run:
    """All mutants of one store, through several workers."""

    def __init__(self, place: Path, store: str, mutants: Sequence[Mutant], jobs: int, phases: Sequence[str]) -> None:
        self.place, self.store, self.jobs, self.phases = place, store, jobs, phases
        self.waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
        for mutant in mutants:
            self.waiting.put(mutant)
        self.verdicts: list[Verdict] = []
        self.explained = explanations()
        self.killers: dict[str, list[str]] = {}
        self.all_killers: Counter[str] = Counter()
        self.errors: list[str] = []

    def run(self) -> list[Verdict]:
        threads = [threading.Thread(target=self.work, args=(n,)) for n in range(self.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            sys.exit("\n".join(self.errors))
        return sorted(self.verdicts, key=lambda verdict: (verdict.mutant.file, verdict.mutant.line))

    def work(self, n: int) -> None:
        root = self.place / f"{self.store}-{n}"
        copied(root)
        try:
            worker = Worker(root, self.store, self.place / f"{self.store}-{n}.log")
            self.check_unchanged(worker, root)
            while not self.errors:
                try:
                    mutant = self.waiting.get_nowait()
                except queue.Empty:
                    break
                self.note(self.tried(worker, mutant))
            worker.end()
        except Exception as error:
            self.errors.append(f"{root}: {error}")

    def check_unchanged(self, worker: Worker, root: Path) -> None:
        """The product as it is has to pass, or every mutant would be found."""
        path = next(iter(paths(root, self.store)))
        same = Mutant(str(path), 1, "unchanged", (root / path).read_text(encoding="utf-8"))
        for phase in self.phases:
            answer = worker.ask(same, phase)
            if answer["found"] or answer["invalid"]:
                raise RuntimeError(f"the unchanged product does not pass: {answer}")

    def tried(self, worker: Worker, mutant: Mutant) -> Verdict:
        own = self.killers.get(mutant.file, [])
        first = [*own, *(name for name, _ in self.all_killers.most_common() if name not in own)]
        answer = worker.ask(mutant, "quick", first)
        why = "" if answer["found"] or answer["invalid"] else self.explained.get(key(mutant), "")
        if not answer["found"] and not answer["invalid"] and not why and "rest" in self.phases:
            answer = worker.ask(mutant, "rest", first)
        return Verdict(mutant, answer["found"], answer["invalid"], why)

    def note(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        say(row(verdict))
        if verdict.found:
            name = verdict.found.split(" ")[0]
            own = self.killers.setdefault(verdict.mutant.file, [])
            if name in own:
                own.remove(name)
            own.insert(0, name)  # neighbours often fall to the same test
            self.all_killers[name] += 1


def copied(root: Path) -> None:
    """The tree as the tests need it."""
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)


def key(mutant: Mutant) -> tuple[str, str]:
    return str(Path(mutant.file).relative_to(STORES)), mutant.text


def explanations() -> dict[tuple[str, str], str]:
    """(file, changed text) -> why it may survive."""
    entries = tomllib.loads((HERE / "explained.toml").read_text(encoding="utf-8"))
    return {
        (file, text): entry["why"]
        for file, list_of in entries.items()
        for entry in list_of
        for text in ([entry["text"]] if isinstance(entry["text"], str) else entry["text"])
    }


def row(verdict: Verdict) -> str:
    mutant = verdict.mutant
    end = {
        "found": f"found by {verdict.found}",
        "survived": "SURVIVED",
        "explained": f"explained: {verdict.why}",
        "invalid": f"invalid: {verdict.invalid}",
    }[verdict.kind]
    return f"{Path(mutant.file).relative_to(STORES)}:{mutant.line} | {mutant.text} | {end}"


def earlier(log: Path, end: str = "") -> set[tuple[str, str]]:
    """The mutants of an earlier run, by what `row` wrote of them."""
    rows = [line.split(" | ") for line in log.read_text(encoding="utf-8").splitlines() if line.endswith(end)]
    return {(parts[0].rpartition(":")[0], " | ".join(parts[1:-1])) for parts in rows if len(parts) > 2}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutate the stores' scripts and SQL; see which tests notice.")
    parser.add_argument("--store", choices=["redis", "sqlite"])
    parser.add_argument("--only", help="part of a file's path")
    parser.add_argument("--text", help="part of the changed text")
    parser.add_argument("--again", type=Path, help="only those that survived in this output of an earlier run")
    parser.add_argument("--without", type=Path, help="only those that are not in this output of an earlier run")
    parser.add_argument("--quick", action="store_true", help="the conformance suites alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    begun = time.monotonic()
    verdicts: list[Verdict] = []
    phases = ["quick"] if options.quick else ["quick", "rest"]
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        for store in [options.store] if options.store else ["redis", "sqlite"]:
            chosen = [path for path in paths(ROOT, store) if (options.only or "") in str(path)]
            mutants = [mutant for path in chosen for mutant in mutants_of(ROOT, path)]
            mutants = [mutant for mutant in mutants if (options.text or "") in mutant.text]
            if options.again:
                mutants = [mutant for mutant in mutants if key(mutant) in earlier(options.again, " | SURVIVED")]
            if options.without:
                mutants = [mutant for mutant in mutants if key(mutant) not in earlier(options.without)]
            if mutants:
                verdicts += Run(Path(place), store, mutants, min(options.jobs, len(mutants)), phases).run()
    totals = Counter(verdict.kind for verdict in verdicts)
    say("\nSurvivors that nobody has explained:" if totals["survived"] else "\nNo survivor is unexplained.")
    say("\n".join(row(verdict) for verdict in verdicts if verdict.kind == "survived"))
    if not (options.only or options.text or options.again or options.without):
        report_stale(verdicts, options.store)
    say(
        f"{len(verdicts)} mutants: {totals['found']} found, {totals['explained']} explained, {totals['survived']} survived, "
        f"{totals['invalid']} invalid; {(time.monotonic() - begun) / 60:.1f} minutes"
    )
    sys.exit(1 if totals["survived"] else 0)


def report_stale(verdicts: Sequence[Verdict], store: str | None) -> None:
    """Explanations of what is no longer a survivor ought to go."""
    used = {key(verdict.mutant) for verdict in verdicts if verdict.kind == "explained"}
    for file, text in explanations():
        if (file, text) not in used and (store is None or file.startswith(store)):
            say(f"explained, but not a survivor: {file} | {text}")


if __name__ == "__main__":
    main()
