"""What is measured of each peer. Each measure starts from an empty store and answers a few figures by name."""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from collections.abc import Callable

from delay import delayed
from environments import Peer
from lab import Lab, Stuck
from ledger import AGAIN, PUSHED, STARTED

Figures = dict[str, float]
SECONDS = 4.0
"""How long a backlog should last."""
LEAST, MOST = 300, 100_000
"""Jobs in a backlog."""
WARM = 0.1
"""The part of a backlog that is run before the rate is taken."""
FUTURE = 86_400.0
"""Seconds ahead of what is not to run in a measurement."""


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def rate(lab: Lab, peer: Peer, kind: str, expected: float, *, slots: int = 100, processes: int = 1,
         url: str | None = None) -> Figures:  # fmt: skip
    """Jobs per second over a backlog, from the time when a tenth of it has run; and the memory of the worker then."""
    count = int(min(MOST, max(LEAST, expected * SECONDS)))
    before = lab.ledger.total()
    bulk = ["--how", "bulk"] if lab.offers(peer)["bulk"] else []
    lab.push(peer, *bulk, "--count", str(count), kind=kind)
    with lab.worker(peer, kind, slots, processes, url) as session:
        first = before + int(count * WARM)
        lab.until(lambda: lab.ledger.total() >= first, 60, f"{peer.name}: the first {kind} jobs")
        began, had = time.perf_counter(), lab.ledger.total()
        lab.until(lambda: lab.ledger.total() >= before + count, 120, f"{peer.name}: {count} {kind} jobs")
        seconds = time.perf_counter() - began
        megabytes = session.megabytes()
    return {"jobs/s": (before + count - had) / seconds, "worker MB": megabytes}


def pushes(lab: Lab, peer: Peer) -> Figures:
    """Pushes per second of one process: awaited one by one, a thousand awaited together, and in bulk."""
    found, offers = {}, lab.offers(peer)
    for how, count in (("single", 4_000), ("gather", 20_000), ("bulk", 60_000)):
        if how == "single" or offers[how]:
            lab.fresh()
            lab.push(peer, "--how", how, "--count", "100")
            found[f"{how}/s"] = count / lab.push(peer, "--how", how, "--count", str(count))
    return found


def idle_start(lab: Lab, peer: Peer) -> Figures:
    """Milliseconds from the push to the start in an idle worker."""
    warm, count = 50, 400
    with lab.worker(peer, "stamp"):
        _running(lab, peer)
        lab.push(peer, "--how", "paced", "--count", str(warm + count), kind="stamp")
        times = lab.ledger
        lab.until(lambda: all(times.times(STARTED, 0, warm + count)), 60, f"{peer.name}: jobs pushed one by one")
        pushed, started = times.times(PUSHED, warm, count), times.times(STARTED, warm, count)
    late = [(at - sent) * 1000 for sent, at in zip(pushed, started, strict=True)]
    return {"start p50 ms": statistics.median(late), "start p99 ms": percentile(late, 0.99), "start max ms": max(late)}


def idle_cost(lab: Lab, peer: Peer) -> Figures:
    """Commands and CPU of a worker that has nothing to do."""
    seconds = 10.0
    with lab.worker(peer, "noop") as session:
        _running(lab, peer)
        time.sleep(3)
        cpu = session.cpu()
        commands = _commands(lab, seconds)
        cpu = session.cpu() - cpu
    return {"idle commands/s": commands / seconds, "idle CPU %": 100 * cpu / seconds}


def lateness(lab: Lab, peer: Peer) -> Figures:
    """Milliseconds from due to started: 5,000 jobs over 10 s, and 5,000 at one moment (the last of them)."""
    count, figures = 5_000, {}
    for over in (10.0, 0.0):  # spread, and a burst
        lab.fresh()
        with lab.worker(peer, "stamp"):
            _running(lab, peer)
            due = round(time.time() + 6.0, 3)
            words = ["--how", "at", "--count", str(count), "--due", repr(due), "--over", repr(over)]
            lab.push(peer, *words, kind="stamp")
            if time.time() > due:
                raise Stuck(f"{peer.name}: pushing {count} jobs took too long")
            lab.until(lambda: lab.ledger.total() >= count + 1, 60 + over, f"{peer.name}: {count} due jobs")
            started = lab.ledger.times(STARTED, 0, count)
        late = [(at - due - over * place / count) * 1000 for place, at in enumerate(started)]
        if over:
            figures |= {"late p50 ms": statistics.median(late), "late p99 ms": percentile(late, 0.99)}
            figures["early"] = float(sum(value < -1 for value in late))
        else:
            figures["burst last ms"] = max(late)
    return figures


def memory(lab: Lab, peer: Peer, count: int) -> Figures:
    """Bytes of Redis for a job that is due tomorrow and carries 100 bytes."""
    before = int(lab.client.info("memory")["used_memory"])
    schedule_ahead(lab, peer, count)
    time.sleep(0.5)  # connections of the pusher are gone
    return {"bytes/job": (int(lab.client.info("memory")["used_memory"]) - before) / count}


def schedule_ahead(lab: Lab, peer: Peer, count: int) -> None:
    """Jobs that are due tomorrow, each at a moment of its own."""
    words = ["--how", "at", "--payload", "100", "--due", repr(time.time() + FUTURE), "--over", "3600"]
    lab.push(peer, *words, "--count", str(count), kind="stamp")


def recovery(lab: Lab, peer: Peer, patience: float = 130.0) -> Figures:
    """Seconds from kill -9 until the killed worker's job runs again, another worker being there; -1 if not in time.

    A job is pushed each second: some look for the dead only when there is something to do.
    """
    with lab.worker(peer, "hold") as session:
        lab.push(peer, "--count", "1", kind="hold")
        lab.until(lambda: bool(lab.ledger.times(STARTED, 0, 1)[0]), 60, f"{peer.name}: a long job")
        session.kill()
    killed = time.time()
    with lab.worker(peer, "hold"), contextlib.suppress(Stuck):
        while time.time() < killed + patience:
            with contextlib.suppress(Stuck):
                lab.until(lambda: bool(lab.ledger.times(AGAIN, 0, 1)[0]), 1, "")
                return {"again after s": lab.ledger.times(AGAIN, 0, 1)[0] - killed}
            lab.push(peer, "--count", "1", "--first", "1")
    return {"again after s": -1.0}


def far_away(lab: Lab, peer: Peer, expected: float) -> Figures:
    """No-op jobs per second when each way to Redis takes half a millisecond longer."""
    figures = {}
    with delayed(lab.port, 0.001) as port:
        for slots in (100, 500):
            lab.fresh()
            found = rate(lab, peer, "noop", expected / 2, slots=slots, url=f"redis://127.0.0.1:{port}/0")
            figures[f"jobs/s at {slots}, 1 ms away"] = found["jobs/s"]
    return figures


def _running(lab: Lab, peer: Peer) -> None:
    """The worker has run a job."""
    lab.push(peer, "--count", "1")
    lab.until(lambda: lab.ledger.total() >= 1, 60, f"{peer.name}: a first job")
    time.sleep(0.5)


def _commands(lab: Lab, seconds: float) -> int:
    """How many commands the server is sent in so many seconds; not those that its scripts run, which INFO counts as well."""
    heard = b""
    with socket.create_connection(("127.0.0.1", lab.port)) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            monitor.settimeout(left)
            with contextlib.suppress(TimeoutError):
                heard += monitor.recv(1 << 20)
    return sum(b"[" in line and b" lua]" not in line for line in heard.splitlines())


def guarded(measure: Callable[[], Figures]) -> Figures | str:
    """The figures, or why there are none."""
    try:
        return measure()
    except Stuck as error:
        return str(error)
