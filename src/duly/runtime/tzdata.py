"""Which release of the time zone database this process follows: nodes that differ fire ticks at different moments."""

from __future__ import annotations

import functools
import zoneinfo
from importlib import metadata
from pathlib import Path

UNKNOWN = "unknown"


@functools.cache
def tzdata_version() -> str:
    """Such as "2025b": of the system's database where there is one, as zoneinfo prefers it, else of the package tzdata."""
    for folder in zoneinfo.TZPATH:
        if (Path(folder) / "Europe" / "Paris").exists():
            return _release(Path(folder))
    try:
        return iana_version(metadata.version("tzdata"))
    except metadata.PackageNotFoundError:
        return UNKNOWN


def iana_version(package: str) -> str:
    """The release in the version of the package: 2025.2 is 2025b."""
    year, _, number = package.partition(".")
    number = number.partition(".")[0]
    return f"{year}{chr(ord('a') + int(number) - 1)}" if number.isdecimal() and 1 <= int(number) <= 26 else package


def _release(folder: Path) -> str:
    """Systems keep it in one of these files, or nowhere."""
    for name in ("+VERSION", "tzdata.zi"):
        try:
            with (folder / name).open(encoding="ascii", errors="replace") as file:
                words = file.readline().split()
        except OSError:
            continue
        if words:
            return words[-1]
    return UNKNOWN
