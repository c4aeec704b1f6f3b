"""What a release is, for the tests of this folder: built once, installed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.release.building import Distributions, distributions


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One for all test processes of this run."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "release"


@pytest.fixture(scope="session")
def built(shared_folder: Path) -> Distributions:
    return distributions(shared_folder)
