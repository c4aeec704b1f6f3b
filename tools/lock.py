"""Writes requirements-dev.lock: the exact versions, in this environment, of all that duly's development needs.

    make lock                                                            # writes it
    pip install --constraint requirements-dev.lock -e '.[all,dev,docs]'  # an environment like the one that wrote it

What other systems need (Windows, another Python) is not in it.
"""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

LOCK = Path(__file__).parent.parent / "requirements-dev.lock"
ROOTS = ("all", "dev", "docs")
"""Extras of duly."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str, extras: frozenset[str], found: dict[str, str], seen: set[tuple[str, frozenset[str]]]) -> None:
    """Add what a distribution needs, and so on, to `found`: version by name. Raises SystemExit for what is not installed."""
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    try:
        one = distribution(name)
    except PackageNotFoundError:
        raise SystemExit(f"{name} is not installed here: pip install -e '.[all,dev,docs]'") from None
    found[normal(name)] = one.version
    for text in one.requires or ():
        requirement = Requirement(text)
        wanted = [{"extra": extra} for extra in (extras or {""})]
        if requirement.marker is None or any(requirement.marker.evaluate(environment) for environment in wanted):
            needed(normal(requirement.name), frozenset(requirement.extras), found, seen)


def locked() -> str:
    """The text of the lock."""
    found: dict[str, str] = {}
    needed("duly", frozenset(ROOTS), found, set())
    del found["duly"]
    head = f"# Made by make lock, on {platform.system()} with Python {'.'.join(platform.python_version_tuple()[:2])}.\n"
    return head + "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))


def main() -> None:
    LOCK.write_text(locked())


if __name__ == "__main__":
    main()
