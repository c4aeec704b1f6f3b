"""Who may see the dashboard and change things by it, and what strangers try."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from duly import Scheduler
from duly.dashboard import Access, dashboard
from duly.dashboard.guard import LARGEST_BODY
from duly.dashboard.login import safe_next
from duly.dashboard.sessions import LASTS, Session, Sessions
from duly.dashboard.throttle import IN_TOTAL, MOST_ADDRESSES, PER_ADDRESS, WINDOW, Throttle, network
from duly.errors import ConfigurationError
from duly.testing import ManualClock
from tests.dashboard.asking import (
    HOST,
    PASSWORD,
    READ_PASSWORD,
    READS,
    TOKEN,
    WRITES,
    access,
    asking,
    client,
    form_token,
    log_in,
    running_app,
)
from tests.schedulers import shared

PAUSE = "/api/queues/pause"


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(shared("memory://"))


@pytest.fixture
async def app(scheduler: Scheduler) -> AsyncIterator[Starlette]:
    async with running_app(dashboard(scheduler, access=access())) as app:
        await scheduler.push("job", remote=True)
        yield app


@pytest.fixture
async def browser(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    async with client(app) as browser:
        yield browser


async def is_paused(scheduler: Scheduler) -> bool:
    return (await scheduler.queues.sizes("default")).paused


# --- who is let in ---------------------------------------------------------------------------------------------------


def test_nobody_is_let_in_by_forgetting_to_say_who_may(monkeypatch: pytest.MonkeyPatch, scheduler: Scheduler) -> None:
    with pytest.raises(ConfigurationError, match=r"give a password or a token .* or say open=True"):
        dashboard(scheduler)
    monkeypatch.setenv("DULY_DASHBOARD_PASSWORD", PASSWORD)
    assert dashboard(scheduler)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"password": "short"}, "fewer than 8 characters"),
        ({"token": "fifteen letters"}, "fewer than 16 characters"),
        ({"password": PASSWORD, "secret": "x"}, "secret of the dashboard has fewer than 16"),
        ({"password": PASSWORD, "read_password": PASSWORD}, "the same password"),
        ({"password": PASSWORD, "open": True}, "one of the three"),
        ({"token": TOKEN, "authorize": lambda _request: "read"}, "one of the three"),
    ],
)
def test_what_keeps_nobody_out_is_refused_without_repeating_it(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        Access(**given)
    for value in given.values():
        assert not isinstance(value, str) or f"{value} " not in f"{caught.value} "


def test_secrets_stand_in_no_repr() -> None:
    shown = f"{access()!r} {access()} {vars(access()).keys()}"
    assert PASSWORD not in shown
    assert TOKEN not in shown


@pytest.mark.parametrize("path", ["/", "/jobs", "/nowhere", "/login/../jobs", "//evil.example"])
async def test_a_stranger_in_a_browser_is_sent_to_the_log_in(browser: httpx2.AsyncClient, path: str) -> None:
    response = await browser.get(httpx2.URL(HOST, raw_path=path.encode()))
    assert response.status_code == 303
    assert response.headers["location"].startswith("/login")


@pytest.mark.parametrize("path", ["/api/overview", "/api/openapi.json", "/api/nowhere", "/live", "/metrics"])
async def test_a_program_without_a_token_is_told_what_to_send(browser: httpx2.AsyncClient, path: str) -> None:
    response = await browser.get(path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.headers["content-type"] == "application/problem+json"
    assert "Authorization: Bearer" in response.json()["detail"]


@pytest.mark.parametrize("given", ["Bearer nonsense", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff"])
async def test_a_wrong_token_opens_nothing(browser: httpx2.AsyncClient, given: str) -> None:
    header = {"Authorization": given.encode("latin-1")}
    assert (await browser.get("/api/overview", headers=header)).status_code == 401  # type: ignore[arg-type]


async def test_health_says_nothing_and_asks_nobody(browser: httpx2.AsyncClient) -> None:
    for path in ("/health/live", "/health/ready"):
        response = await browser.get(path)
        assert (response.status_code, response.text) == (200, "ok\n")


async def test_the_right_password_opens_a_session_that_only_this_browser_has(browser: httpx2.AsyncClient) -> None:
    response = await log_in(browser, next="/jobs?state=dead")
    assert (response.status_code, response.headers["location"]) == (303, "/jobs?state=dead")
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert (await browser.get("/api/overview")).status_code == 200


async def test_over_https_the_cookie_is_for_https_alone(app: Starlette) -> None:
    async with client(app, base_url="https://duly.test") as browser:
        assert "; Secure" in (await log_in(browser)).headers["set-cookie"]


async def test_a_wrong_password_is_told_and_logged_without_it(
    browser: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    response = await log_in(browser, "a guess of mine")
    assert response.status_code == 401
    assert "a guess of mine" not in response.text + caplog.text
    assert "10.0.0.1: wrong password" in caplog.text
    assert (await browser.get("/api/overview")).status_code == 401


async def test_log_out_ends_the_session_also_for_who_has_copied_the_cookie(app: Starlette) -> None:
    async with client(app) as browser, client(app) as thief:
        await log_in(browser)
        thief.cookies.update(browser.cookies)
        assert (await thief.get("/api/overview")).status_code == 200
        response = await browser.post("/logout", data={"csrf": await form_token(browser)})
        assert response.headers["location"] == "/login"
        assert (await browser.get("/api/overview")).status_code == 401
        assert (await thief.get("/api/overview")).status_code == 401


# --- roles -----------------------------------------------------------------------------------------------------------


async def test_who_may_read_may_not_change(app: Starlette, scheduler: Scheduler) -> None:
    async with client(app, headers=READS) as reader, client(app) as browser:
        response = await reader.post(PAUSE, json={"queue": "default"})
        assert (response.status_code, response.json()["title"]) == (403, "Forbidden")
        assert (await reader.get("/api/overview")).status_code == 200
        await log_in(browser, READ_PASSWORD)
        header = {"X-CSRF-Token": await form_token(browser)}
        assert (await browser.post(PAUSE, json={"queue": "default"}, headers=header)).status_code == 403
        for method in ("PUT", "PATCH", "DELETE", "SOMETHING"):
            assert (await browser.request(method, "/jobs", headers=header)).status_code == 403
    assert not await is_paused(scheduler)


async def test_the_application_around_it_says_who_may_what(scheduler: Scheduler) -> None:
    async def authorize(request: Request) -> Any:
        await asyncio.sleep(0)
        return request.headers.get("x-role")

    async with asking(scheduler, Access(authorize=authorize), headers={}) as asks:
        assert (await asks.get("/api/overview")).status_code == 403
        assert (await asks.get("/")).status_code == 403
        assert (await asks.get("/api/overview", headers={"x-role": "everything"})).status_code == 403
        assert (await asks.get("/api/overview", headers={"x-role": "read"})).status_code == 200
        assert (await asks.post(PAUSE, json={"queue": "x"}, headers={"x-role": "read"})).status_code == 403
        forged = {"x-role": "write", "Authorization": f"Bearer {TOKEN}"}
        assert (await asks.post(PAUSE, json={"queue": "x"}, headers=forged)).status_code == 403  # no token of the forms


# --- changes are meant ------------------------------------------------------------------------------------------------


async def test_a_change_by_session_needs_the_token_of_its_forms(
    browser: httpx2.AsyncClient, scheduler: Scheduler
) -> None:
    await log_in(browser)
    for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "x" * 43}, {"X-CSRF-Token": "\u00e9"}):
        raw = {name: value.encode() for name, value in headers.items()}
        response = await browser.post(PAUSE, json={"queue": "default"}, headers=raw)  # type: ignore[arg-type]
        assert response.status_code == 403
        assert "load the page anew" in response.json()["detail"]
    assert not await is_paused(scheduler)
    header = {"X-CSRF-Token": await form_token(browser)}
    assert (await browser.post(PAUSE, json={"queue": "default"}, headers=header)).status_code == 200
    assert await is_paused(scheduler)


async def test_the_token_of_one_session_is_nothing_in_another(app: Starlette) -> None:
    async with client(app) as mine, client(app) as theirs:
        await log_in(mine)
        await log_in(theirs)
        header = {"X-CSRF-Token": await form_token(theirs)}
        assert (await mine.post(PAUSE, json={"queue": "default"}, headers=header)).status_code == 403


async def test_the_log_in_too_needs_the_token_of_its_form(browser: httpx2.AsyncClient) -> None:
    await browser.get("/login")
    response = await browser.post("/login", data={"password": PASSWORD, "next": "/"})
    assert response.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://duly.test.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_page_of_another_site_changes_nothing(
    browser: httpx2.AsyncClient, scheduler: Scheduler, headers: dict[str, str]
) -> None:
    await log_in(browser)
    headers = headers | {"X-CSRF-Token": await form_token(browser)}
    response = await browser.post(PAUSE, json={"queue": "default"}, headers=headers)
    assert (response.status_code, response.json()["detail"]) == (403, "this request came from a page of another site")
    assert not await is_paused(scheduler)


async def test_open_to_all_is_not_open_to_pages_of_other_sites(scheduler: Scheduler) -> None:
    async with asking(scheduler, Access(open=True, hosts=frozenset({"duly.test"})), headers={}) as asks:
        await scheduler.push("job", remote=True)
        rebound = await asks.get("/api/overview", headers={"Host": "evil.example"})
        assert (rebound.status_code, "evil.example" in rebound.json()["detail"]) == (400, True)
        simple = await asks.post(PAUSE, content=b'{"queue":"default"}', headers={"Content-Type": "text/plain"})
        assert simple.status_code == 403
        assert (await asks.post(PAUSE, data={"queue": "default"})).status_code == 403
        assert not await is_paused(scheduler)
        assert (await asks.post(PAUSE, json={"queue": "default"})).status_code == 200
        assert (await asks.get("/health/live", headers={"Host": "duly.test:8080"})).status_code == 200


async def test_a_body_that_is_too_large_is_not_read(app: Starlette) -> None:
    async def without_end() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * (LARGEST_BODY // 10)

    async with client(app, headers=WRITES) as asks:
        for content in (b"x" * (LARGEST_BODY + 1), without_end()):
            response = await asks.post(PAUSE, content=content)
            assert response.status_code == 413
        assert (await asks.post(PAUSE, content=b"x" * LARGEST_BODY)).status_code == 400


# --- sessions --------------------------------------------------------------------------------------------------------


async def test_a_cookie_that_was_changed_is_worth_nothing(browser: httpx2.AsyncClient) -> None:
    await log_in(browser, READ_PASSWORD)
    (name,) = (cookie for cookie in browser.cookies if not cookie.endswith("_note"))
    right = browser.cookies[name]
    forged = Sessions(b"another key", ManualClock()).write(Session("id", "write", 2**40))
    packed, _, signature = right.rpartition(".")
    for wrong in (
        forged,
        packed,
        f"{packed}.",
        f"x{right}",
        f"{forged.rpartition('.')[0]}.{signature}",
        "." * 600,
        "é",
    ):
        browser.cookies.clear()
        response = await browser.get("/api/overview", headers={"Cookie": f"{name}={wrong}".encode()})  # type: ignore[dict-item]
        assert response.status_code == 401, wrong
    response = await browser.get("/api/overview", headers={"Cookie": f"{name}={right}"})
    assert response.status_code == 200


def test_a_session_ends_by_itself() -> None:
    clock = ManualClock()
    sessions = Sessions(b"key", clock)
    cookie = sessions.write(sessions.begin("write"))
    clock.advance(LASTS - 1)
    assert sessions.read(cookie) is not None
    clock.advance(1)
    assert sessions.read(cookie) is None


def test_the_token_of_forms_is_no_session_and_a_session_no_token() -> None:
    sessions = Sessions(b"key", ManualClock())
    session = sessions.begin("write")
    packed, _, signature = sessions.write(session).rpartition(".")
    assert not sessions.is_token(session, signature)
    assert sessions.read(f"{packed}.{sessions.token(session)}") is None
    assert sessions.is_token(session, sessions.token(session))


def test_another_password_ends_the_sessions_that_the_former_opened() -> None:
    secret = "s" * 16
    before, after = Access(password=PASSWORD, secret=secret), Access(password=PASSWORD + "!", secret=secret)
    assert before.key() == Access(password=PASSWORD, secret=secret).key() != after.key()
    assert Access(password=PASSWORD).key() != Access(password=PASSWORD).key()  # without a secret: one for each start


def test_ended_sessions_are_forgotten_when_they_would_have_ended_anyway() -> None:
    clock = ManualClock()
    sessions = Sessions(b"key", clock)
    for _ in range(3):
        sessions.end(sessions.begin("read"))
    clock.advance(LASTS + 1)
    sessions.end(sessions.begin("read"))
    assert len(sessions._ended) == 1


# --- guessing --------------------------------------------------------------------------------------------------------


async def test_guessing_is_stopped_even_if_the_next_guess_is_right(scheduler: Scheduler) -> None:
    app = dashboard(scheduler, access=access())
    async with running_app(app), client(app) as guesser, client(app, "10.0.0.2") as owner:
        for n in range(PER_ADDRESS):
            assert (await log_in(guesser, f"guess {n} of many")).status_code == 401
        response = await log_in(guesser)
        assert response.status_code == 429
        assert 0 < int(response.headers["retry-after"]) <= WINDOW + 1
        assert (await log_in(owner)).status_code == 303


def test_failures_count_for_a_minute_by_address_and_in_all() -> None:
    clock = ManualClock()
    throttle = Throttle(clock)
    for _ in range(PER_ADDRESS):
        assert throttle.wait("10.0.0.1") == 0
        throttle.failed("10.0.0.1")
    assert throttle.wait("10.0.0.1") > 0
    assert throttle.wait("10.0.0.2") == 0
    clock.advance(WINDOW + 1)
    assert throttle.wait("10.0.0.1") == 0
    for n in range(IN_TOTAL):
        throttle.failed(f"10.1.0.{n}")
    assert throttle.wait("10.0.0.3") > 0


def test_right_passwords_take_failures_back_and_memory_is_bounded() -> None:
    throttle = Throttle(ManualClock())
    for _ in range(PER_ADDRESS):
        throttle.failed("10.0.0.1")
    throttle.succeeded("10.0.0.1")
    assert len(throttle._failures) == 0
    for n in range(MOST_ADDRESSES + 10):
        throttle.failed(f"10.0.{n // 250}.{n % 250}")
    assert len(throttle._failures) == MOST_ADDRESSES
    assert len(throttle._all) == IN_TOTAL


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("testclient", "testclient", True),
    ],
)
def test_who_has_one_ipv6_address_has_its_whole_network(one: str, other: str, same: bool) -> None:
    assert (network(one) == network(other)) is same


# --- where it leads, what it says ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "javascript:a(1)",
        "/jobs\r\nSet-Cookie: a=b", "", "jobs", " /jobs", "///evil.example", "/\x00", "/a\\b", "http:evil.example",
    ],
)  # fmt: skip
async def test_a_log_in_leads_nowhere_else(browser: httpx2.AsyncClient, wanted: str) -> None:
    assert (await log_in(browser, next=wanted)).headers["location"] == "/"


@pytest.mark.parametrize("wanted", ["/", "/jobs?state=dead&q=%2F%2F", "/jobs/one?id=a//b", "/é"])
def test_a_log_in_leads_to_any_place_of_the_dashboard(wanted: str) -> None:
    assert safe_next(wanted) == wanted


@pytest.mark.parametrize("path", ["/api/overview", "/api/nowhere", "/login", "/", "/health/live", "/static/nothing.js"])
async def test_every_answer_carries_the_headers_that_protect(app: Starlette, path: str) -> None:
    async with client(app, headers=WRITES) as asks:
        headers = (await asks.get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert path.startswith("/static") or headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/access.py",
        "/static//etc/passwd",
        "/static/..\\app.py",
    ],
)
async def test_files_beside_the_assets_cannot_be_had(browser: httpx2.AsyncClient, path: str) -> None:
    response = await browser.get(httpx2.URL(HOST, raw_path=path.encode()))
    assert response.status_code in (303, 404, 405)
    assert "import" not in response.text
    assert "root:" not in response.text


async def test_a_fault_of_ours_is_logged_and_told_without_its_text(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = dashboard(scheduler, access=access())

    async def broken() -> None:
        raise RuntimeError("redis://user:hunter2@host")

    async with running_app(app), client(app, headers=WRITES) as asks:
        monkeypatch.setattr(app.state.site.monitor, "overview", broken)
        response = await asks.get("/api/overview")
    assert response.status_code == 500
    assert "hunter2" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    assert any(record.levelno == logging.ERROR for record in caplog.records)


# --- mounted ---------------------------------------------------------------------------------------------------------


async def test_mounted_it_connects_with_the_first_request_and_its_links_stay_inside(scheduler: Scheduler) -> None:
    async def home(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("home")

    mounted = dashboard(scheduler, access=access())
    outer = Starlette(routes=[Route("/", home), Mount("/ops/duly", mounted)])
    async with running_app(outer), client(outer) as browser:
        sent = await browser.get("/ops/duly/jobs")
        assert sent.headers["location"] == "/ops/duly/login?next=/jobs"
        assert "Path=/ops/duly;" in sent.headers["set-cookie"]
        assert (await browser.get("/ops/duly/api/overview", headers=WRITES)).status_code == 200
        document = (await browser.get("/ops/duly/api/openapi.json", headers=WRITES)).json()
        assert document["servers"] == [{"url": "/ops/duly"}]
        assert (await browser.get("/")).text == "home"
    await mounted.state.site.close()


def test_mounted_its_connection_ends_with_the_event_loop(scheduler: Scheduler) -> None:
    mounted = dashboard(scheduler, access=access())

    async def ask() -> int:
        async with client(mounted, headers=WRITES) as asks:  # no lifespan: a mounted application has none
            response = await asks.get("/api/overview")
            assert scheduler.connected_store
            return response.status_code

    for _ in range(2):  # the second time in another loop
        assert asyncio.run(ask()) == 200
        with pytest.raises(ConfigurationError, match="not connected"):
            _ = scheduler.connected_store


def test_a_scheduler_that_another_loop_has_connected_is_a_503(scheduler: Scheduler) -> None:
    mounted = dashboard(scheduler, access=access())

    async def ask() -> int:
        async with client(mounted, headers=WRITES) as asks:
            return (await asks.get("/api/overview")).status_code

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(scheduler.connect())
        assert asyncio.run(ask()) == 503
        loop.run_until_complete(scheduler.close())
    finally:
        loop.close()


async def test_a_fault_of_authorize_lets_nobody_in(scheduler: Scheduler) -> None:
    def authorize(_request: Request) -> Any:
        raise KeyError("user")

    async with asking(scheduler, Access(authorize=authorize), headers={}) as asks:
        for path in ("/", "/api/overview"):
            response = await asks.get(path)
            assert response.status_code == 500
            assert "content-security-policy" in response.headers


async def test_a_websocket_is_not_taken(app: Starlette) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await app({"type": "websocket", "path": "/live", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
