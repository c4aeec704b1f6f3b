"""Wrong clocks, by libfaketime: it lies to a process about the time of day, and leaves CLOCK_MONOTONIC alone."""

from __future__ import annotations

from pathlib import Path

PLACES = (
    "/usr/lib/*/faketime",
    "/usr/lib/faketime",
    "/usr/lib64/faketime",
    "/usr/local/lib/faketime",
    "/opt/homebrew/lib/faketime",
)


def library() -> Path | None:
    """Where libfaketime is, if it is installed (on Debian: apt-get install libfaketime)."""
    for place in PLACES:
        for found in sorted(Path("/").glob(f"{place[1:]}/libfaketimeMT.so.1")):
            return found
    return None


def shifted(seconds: float) -> dict[str, str]:
    """The environment of a process whose clock is wrong by so much; nothing if it is right."""
    return {**_preload(), "FAKETIME": f"{seconds:+.3f}s"} if seconds else {}


def steered(file: Path) -> dict[str, str]:
    """The environment of a process whose clock is wrong by what `steer` writes into the file."""
    return {**_preload(), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}


def steer(file: Path, seconds: float) -> None:
    """From now on it is wrong by so much."""
    new = file.with_suffix(".new")  # a reader never meets a file that is half written
    new.write_text(f"{seconds:+.3f}s\n")
    new.replace(file)


def _preload() -> dict[str, str]:
    found = library()
    if found is None:
        raise RuntimeError("libfaketime is not installed, and shifts the clocks here: apt-get install libfaketime")
    return {
        "LD_PRELOAD": str(found),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        # Its repair of an old pthread_cond_timedwait keeps Python's threads from handing the interpreter over: a
        # heartbeat then starves beside a handler that computes, which is not the product's doing.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }
