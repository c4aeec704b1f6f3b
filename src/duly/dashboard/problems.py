"""What can go wrong with a request, as a status and one sentence; the API and the pages show the same."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from duly.errors import (
    ConfigurationError,
    FormatError,
    InvalidArguments,
    NotAccepting,
    PushError,
    PushUncertain,
    ScheduleConflict,
    StoreError,
)

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

MEDIA_TYPE = "application/problem+json"
SENTENCES = {404: "there is no such place in this dashboard", 405: "this place does not take that method"}


class Refused(Exception):
    """A request that cannot be done as it was asked for; the sentence says why, and what to do."""

    def __init__(self, status: int, sentence: str, *, retry_after: int | None = None) -> None:
        self.status, self.sentence, self.retry_after = status, sentence, retry_after
        super().__init__(sentence)


async def require_queue(scheduler: Scheduler, queue: str) -> None:
    """Raises Refused for a queue that nobody knows: looking at it would find nothing, and make room for it in the store.
    Raises StoreError."""
    if queue not in await scheduler.queues.list():
        raise Refused(404, f"there is no queue {queue!r}: nothing was pushed to it, and no node serves it")


class Problem(msgspec.Struct, frozen=True):
    """An error as RFC 9457 describes it. detail: one sentence."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"


def refusal(error: Exception) -> Refused | None:
    """The error as an answer; None for one that should not have come: it is a fault of ours."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, HTTPException):
        return Refused(error.status_code, SENTENCES.get(error.status_code, error.detail))
    status = _status(error)
    return None if status is None else Refused(status, _sentence(error), retry_after=2 if status == 503 else None)


def _status(error: Exception) -> int | None:
    if isinstance(error, ScheduleConflict | FormatError):
        return 409
    if isinstance(error, StoreError | NotAccepting | PushUncertain):
        return 503
    if isinstance(error, ConfigurationError | PushError | InvalidArguments | msgspec.ValidationError):
        return 422
    if isinstance(error, msgspec.DecodeError):
        return 400
    return None


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def problem(refused: Refused) -> Response:
    """The refusal for programs."""
    body = Problem(HTTPStatus(refused.status).phrase, refused.status, refused.sentence)
    return Response(msgspec.json.encode(body), refused.status, headers_of(refused), MEDIA_TYPE)


def headers_of(refused: Refused) -> dict[str, str]:
    """What an answer of this refusal carries beside its body."""
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    return headers | ({"WWW-Authenticate": 'Bearer realm="duly"'} if refused.status == 401 else {})
