"""What a review as an attacker has found: each stays found."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from duly import Keys, Scheduler, at, every
from duly.core import codec
from duly.core.trigger import Trigger
from duly.dashboard import dashboard
from duly.dashboard.api.types import read_datetime
from duly.dashboard.guard import LARGEST_LOG_IN
from duly.dashboard.pages.triggers import as_typed, read_trigger
from duly.dashboard.problems import Refused
from duly.dashboard.site import Site
from duly.errors import ConfigurationError, FormatError, StoreUnavailable, TooLarge
from duly.stores.sealing import keys_of_environment
from duly.views.redaction import HIDDEN, redacted
from tests.dashboard.asking import HOST, READS, access, asking, client, form_token, log_in, running_app
from tests.schedulers import running, shared
from tests.waiting import eventually


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(shared("memory://"))


async def test_all_who_ask_while_the_store_is_away_share_one_attempt(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[asyncio.Event] = []

    async def connect() -> None:
        attempts.append(gate := asyncio.Event())
        await gate.wait()
        raise StoreUnavailable("away")

    monkeypatch.setattr(scheduler, "connect", connect)
    site = Site(scheduler, access())
    asked = [asyncio.create_task(site.connect()) for _ in range(6)]
    await eventually(lambda: attempts)
    attempts[0].set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 6
    assert len(attempts) == 1
    again = asyncio.create_task(site.connect())
    await eventually(lambda: len(attempts) == 2)
    await site.close()  # ends the attempt that is under way
    assert isinstance((await asyncio.gather(again, return_exceptions=True))[0], asyncio.CancelledError)


@pytest.mark.parametrize(
    "path", ["/job?queue=A&id=x", "/schedule?queue=A&id=x", "/jobs?queue=A&id=x", "/schedules?queue=A", "/dead?queue=A"]
)
async def test_looking_at_a_queue_that_nobody_knows_makes_no_room_for_it(scheduler: Scheduler, path: str) -> None:
    async with asking(scheduler, headers=READS) as asks:
        await scheduler.push("job", remote=True)
        answer = await asks.get(path)
        assert (answer.status_code, "there is no queue" in answer.text) == (404, True)


async def test_who_has_not_logged_in_sends_little(scheduler: Scheduler) -> None:
    async with running_app(dashboard(scheduler, access=access())) as app, client(app) as browser:
        form = {"csrf": await form_token(browser), "password": "x" * LARGEST_LOG_IN}
        assert (await browser.post("/login", data=form)).status_code == 413


@pytest.mark.parametrize(("headers", "status"), [
    ({"Origin": "https://jobs.example.com", "Sec-Fetch-Site": "same-origin"}, 303),  # a proxy has changed the host
    ({"Origin": "https://jobs.example.com", "Sec-Fetch-Site": "cross-site"}, 403),
    ({"Origin": "https://jobs.example.com"}, 403),
    ({"Origin": HOST}, 303),
])  # fmt: skip
async def test_the_browser_s_own_word_about_the_site_counts(
    scheduler: Scheduler, headers: dict[str, str], status: int
) -> None:
    async with running_app(dashboard(scheduler, access=access())) as app, client(app, headers=headers) as browser:
        assert (await log_in(browser)).status_code == status


async def test_the_way_back_from_a_question_stays_on_the_dashboard(scheduler: Scheduler) -> None:
    async with running_app(dashboard(scheduler, access=access())) as app, client(app) as browser:
        await scheduler.push("job", remote=True)
        await log_in(browser)
        form = {"csrf": await form_token(browser), "queue": "default", "action": "delete_dead"}
        answer = await browser.post("/dead", data={**form, "back": "javascript:alert(1)"})
        assert (answer.status_code, 'href="javascript:' in answer.text) == (200, False)


def test_a_secret_that_was_given_as_an_id_is_not_shown() -> None:
    secret = "BZQRvPbxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxBLrk"
    for given in (f"{secret}=", f"{secret}=2026-11", secret):
        with pytest.raises(ConfigurationError) as refused:
            keys_of_environment({"DULY_SIGNING_KEYS": given})
        assert "BZQR" not in str(refused.value)
    with pytest.raises(ConfigurationError) as refused:
        Keys({secret * 2: "2026-11"})
    assert "BZQR" not in str(refused.value)


@pytest.mark.parametrize("name", [
    "password", "PASSWORD_PROD", "password_hash", "passwords", "pwd", "db_pass", "X-Api-Key", "api-key", "apikey", "access_key",
    "private-key", "auth", "Authorization", "session_cookie", "client_secret", "passphrase", "passcode",
])  # fmt: skip
def test_what_is_named_like_a_secret_is_hidden(name: str) -> None:
    assert redacted({name: "hush"}) == {name: HIDDEN}


@pytest.mark.parametrize("name", ["author", "passenger", "compass_heading", "key", "monkey", "authority_id"])
def test_what_is_only_spelled_a_bit_like_one_is_shown(name: str) -> None:
    assert redacted({name: "seen"}) == {name: "seen"}


def test_the_whole_password_of_a_url_is_hidden() -> None:
    assert redacted("postgres://u:p@ss@h/db") == f"postgres://u:{HIDDEN}@h/db"


@pytest.mark.parametrize(
    "trigger", [every(weeks=2), every(seconds=123456.789), every(milliseconds=50), at(1_900_000_000.123)]
)
def test_a_rule_that_is_not_edited_stays_as_it_is(trigger: Trigger) -> None:
    assert read_trigger(*as_typed(trigger), trigger) == trigger


@pytest.mark.parametrize("moment", ["0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"])
def test_moments_beyond_the_calendar_are_refused(moment: str) -> None:
    with pytest.raises(Refused):
        read_datetime("start", moment)


def test_headers_count_for_the_size_of_a_job() -> None:
    body = codec.encode("job", ("x" * 999_900,))
    with pytest.raises(TooLarge, match="at most 1,000,000"):
        codec.with_headers(body, {"trace": "y" * 5_000})


async def test_a_dashboard_without_keys_says_that_what_it_shows_is_sealed() -> None:
    url = shared("memory://")
    keys = Keys({"k": "s" * 32}, {"k": "e" * 32})
    nodes = Scheduler(url, keys=keys)

    @nodes.task(keep_result=True)
    async def work() -> Any:
        return 1

    async with running(nodes):
        job = await work.options(id="a").push()
        assert await job.result(timeout=5) == 1
        await nodes.schedules.put("s", every(hours=1), "work")
        async with asking(Scheduler(url), headers=READS) as asks:
            answer: httpx2.Response = await asks.get("/api/jobs/one", params={"queue": "default", "id": "a"})
            assert (answer.status_code, answer.json()["result"]["ending"]) == (200, "sealed")
            page = await asks.get("/schedule", params={"queue": "default", "id": "s"})
            assert "give this scheduler its keys" in page.text
        async with Scheduler(url) as plain:
            with pytest.raises(FormatError, match="encrypted: give this scheduler its keys"):
                await plain.schedules.get("s")
