"""Settings come from keywords, else from the environment, else from defaults; a bad one is named."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from duly.config import DEFAULT_QUEUE, DEFAULT_URL, SETTINGS, Config, make_config, resolve_urls
from duly.errors import ConfigurationError, InvalidOption


def test_the_defaults_are_those_of_the_design() -> None:
    config = make_config({}, {})
    assert (config.namespace, config.app, config.queues) == ("duly", "default", (DEFAULT_QUEUE,))
    assert (config.concurrency, config.threads, config.lease, config.poll) == (100, None, 10.0, 2.0)
    assert (config.remember, config.unfit_for, config.tags) == (3600.0, 3600.0, ())
    assert config.logger is logging.getLogger("duly")
    assert config.lease_ms == 10_000


def test_keywords_go_over_the_environment_and_the_environment_over_defaults() -> None:
    environment = {"DULY_LEASE": "3", "DULY_CONCURRENCY": "7", "DULY_APP": "shop"}
    config = make_config({"lease": 5}, environment)
    assert (config.lease, config.concurrency, config.app, config.poll) == (5, 7, "shop", 2.0)


def test_a_keyword_given_as_none_is_not_given() -> None:
    assert make_config({"lease": None}, {"DULY_LEASE": "3"}).lease == 3.0
    assert make_config({"lease": None}, {}).lease == 10.0


def test_every_setting_but_the_logger_can_come_from_the_environment() -> None:
    texts = {name: "5" for name in SETTINGS if name != "logger"} | {
        "queues": " a , b,,a ",
        "tags": "gpu, big",
        "durability": "replicated",
        "measures": "off",
    }
    config = make_config({}, {f"DULY_{name.upper()}": text for name, text in texts.items()})
    assert (config.queues, config.tags, config.namespace, config.threads, config.grace) == (
        ("a", "b"),
        ("gpu", "big"),
        "5",
        5,
        5.0,
    )


@pytest.mark.parametrize(("text", "said"), [("1", True), ("True", True), ("on", True), ("no", False), ("OFF", False)])
def test_a_switch_is_said_in_words_or_numbers(text: str, said: bool) -> None:
    assert make_config({}, {"DULY_MEASURES": text}).measures is said


def test_a_switch_that_is_neither_on_nor_off_is_named() -> None:
    with pytest.raises(
        ConfigurationError, match="DULY_MEASURES='perhaps': give one of 1, true, yes, on, 0, false, no, off"
    ):
        make_config({}, {"DULY_MEASURES": "perhaps"})
    with pytest.raises(InvalidOption, match="measures=1: give True or False"):
        make_config({"measures": 1}, {})


def test_an_empty_variable_is_not_given() -> None:
    assert make_config({}, {"DULY_LEASE": "", "DULY_QUEUES": ""}) == make_config({}, {})


@pytest.mark.parametrize(
    ("variable", "text"), [("DULY_LEASE", "ten"), ("DULY_CONCURRENCY", "1.5"), ("DULY_HISTORY", "many")]
)
def test_a_variable_that_is_no_number_is_named(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make_config({}, {variable: text})
    assert variable in str(refused.value)
    assert repr(text) in str(refused.value)


def test_queues_may_be_a_list_and_each_counts_once() -> None:
    assert make_config({"queues": ["mail", "default", "mail"]}, {}).queues == ("mail", "default")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"concurrency": 0}, "concurrency=0: give a whole number from 1 to 100000"),
        ({"concurrency": 1.5}, "concurrency=1.5"),
        ({"concurrency": True}, "concurrency=True"),
        ({"concurrency": "10"}, "concurrency='10'"),
        ({"threads": 0}, "threads=0"),
        ({"lease": 0.5}, "lease=0.5: give a number from 1 to 86400"),
        ({"lease": float("nan")}, "lease=nan"),
        ({"grace": -1}, "grace=-1"),
        ({"grace": float("inf")}, "grace=inf"),
        ({"poll": 0}, "poll=0"),
        ({"poll": 61}, "poll=61"),
        ({"history": -1}, "history=-1"),
        ({"remember": -1}, "remember=-1"),
        ({"unfit_for": "1h"}, "unfit_for='1h'"),
        ({"push_timeout": -1}, "push_timeout=-1"),
        ({"namespace": ""}, "namespace=''"),
        ({"namespace": "a b"}, "namespace='a b'"),
        ({"namespace": "{a}"}, "no braces"),
        ({"namespace": "\ud800"}, "namespace='\\ud800'"),
        ({"namespace": 5}, "namespace=5"),
        ({"namespace": "n" * 201}, "1 to 200 characters"),
        ({"app": "a\tb"}, "app='a\\tb'"),
        ({"queues": "mail"}, "queues='mail': give a sequence of names"),
        ({"queues": ()}, "name at least one queue"),
        ({"queues": ["a", 5]}, "queues="),
        ({"queues": ["a b"]}, "queues='a b'"),
        ({"queues": [""]}, "queues=''"),
        ({"queues": 5}, "queues=5"),
        ({"tags": "gpu"}, "tags='gpu'"),
        ({"tags": [None]}, "tags=[None]"),
        ({"logger": "duly"}, "logger='duly'"),
        ({"leese": 5}, "unknown setting 'leese'; did you mean 'lease'?"),
        ({"workers": 5}, "unknown setting 'workers'; known: app, child_jobs"),
    ],
    ids=str,
)
def test_a_bad_setting_gets_one_clear_error(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        make_config(settings, {})
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Config().lease = 5  # type: ignore[misc]


def test_the_url_is_the_one_given_else_that_of_the_environment_else_the_embedded_store() -> None:
    assert resolve_urls("redis://a", {"DULY_URL": "redis://b"}) == ("redis://a",)
    assert resolve_urls(None, {"DULY_URL": "redis://b"}) == ("redis://b",)
    assert resolve_urls(None, {"DULY_URL": "redis://b  redis://c"}) == ("redis://b", "redis://c")
    assert resolve_urls(["redis://b", "redis://c"], {}) == ("redis://b", "redis://c")
    assert resolve_urls(None, {}) == (DEFAULT_URL,)


def test_the_environment_of_the_process_is_the_one_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DULY_CONCURRENCY", "13")
    monkeypatch.setenv("DULY_URL", "redis://here")
    assert make_config({}).concurrency == 13
    assert resolve_urls(None) == ("redis://here",)
