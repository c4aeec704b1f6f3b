"""The lock of the development environment: whole, exact, and of no machine in particular."""

from __future__ import annotations

import re
import tomllib

from tests.release.building import ROOT

PINNED = re.compile(r"([a-z0-9-]+)==[0-9][A-Za-z0-9.!+]*")


def test_the_lock_pins_everything_that_is_asked_for() -> None:
    lines = (ROOT / "requirements-dev.lock").read_text().splitlines()[1:]
    pinned = {found[1] for line in lines if (found := PINNED.fullmatch(line))}
    assert len(pinned) == len(lines) > 50, "a line is no NAME==VERSION"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["dev"], *extras["docs"], *extras["redis"], *extras["dashboard"]]
    names = {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-") for requirement in asked}
    assert names <= pinned, f"run make lock: {sorted(names - pinned)}"
