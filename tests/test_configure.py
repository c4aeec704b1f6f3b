"""Settings given after the construction, as the command line gives them."""

from __future__ import annotations

import logging

import pytest

from duly import DulyError, Scheduler
from duly.errors import ConfigurationError, InvalidOption, InvalidURL


async def test_configure_changes_what_is_given_and_nothing_else() -> None:
    scheduler = Scheduler("memory://", concurrency=3, lease=4)
    scheduler.configure(lease=5, queues=["a", "b"], grace=None)
    config = scheduler.config
    assert (config.concurrency, config.lease, config.queues, config.grace) == (3, 5, ("a", "b"), 20)


async def test_configure_keeps_the_store_unless_it_names_another() -> None:
    scheduler = Scheduler("memory://")
    store = scheduler.store
    scheduler.configure(concurrency=1)
    assert scheduler.store is store
    scheduler.configure("redis://127.0.0.1:1", namespace="shop")
    assert scheduler.store.url == "redis://127.0.0.1:1"
    scheduler.configure(namespace="other")
    assert scheduler.store.url == "redis://127.0.0.1:1"
    assert scheduler.store.namespace == "other"  # type: ignore[attr-defined]


async def test_a_configured_logger_hears_what_listeners_do_wrong(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler("memory://")
    scheduler.configure(logger=logging.getLogger("mine"))

    @scheduler.on("online")
    def listener(event: object) -> None:
        raise ValueError

    await scheduler.start()
    await scheduler.stop()
    assert [record.name for record in caplog.records if "listener" in record.message] == ["mine"]


async def test_configure_is_refused_while_connected_and_allowed_after_a_stop() -> None:
    scheduler = Scheduler("memory://")
    async with scheduler:
        with pytest.raises(ConfigurationError, match="comes before start"):
            scheduler.configure(lease=5)
    await scheduler.start()
    with pytest.raises(ConfigurationError, match="comes before start"):
        scheduler.configure(lease=5)
    await scheduler.stop()
    scheduler.configure(lease=5)
    assert scheduler.config.lease == 5


@pytest.mark.parametrize(
    ("given", "error"),
    [({"lease": 0}, InvalidOption), ({"leese": 5}, InvalidOption), ({"url": "nope://"}, InvalidURL)],
)
async def test_a_refused_configuration_changes_nothing(given: dict[str, object], error: type[DulyError]) -> None:
    scheduler = Scheduler("memory://")
    config, store = scheduler.config, scheduler.store
    with pytest.raises(error):
        scheduler.configure(**{"grace": 1, **given})  # type: ignore[arg-type]
    assert (scheduler.config, scheduler.store) == (config, store)
