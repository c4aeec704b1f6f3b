"""What a form sent, and the question before what cannot be undone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from duly.dashboard.pages.rendering import page
from duly.dashboard.pages.seam import is_ours
from duly.dashboard.problems import Refused
from duly.dashboard.site import path_to

MOST_FIELDS = 2_500
MOST_JOBS = 1_000
_job = msgspec.json.Decoder(tuple[str, str])


class Form:
    """The fields of a form. Raises Refused for what is missing, or is not what it should be."""

    def __init__(self, fields: FormData) -> None:
        self._fields = fields

    def text(self, name: str, default: str | None = None) -> str:
        """One field."""
        value = self._fields.get(name, default)
        if not isinstance(value, str):
            raise Refused(422, f"the form has no field {name!r}: load the page anew, then do it again")
        return value

    def whole(self, name: str) -> int | None:
        """A whole number; None for an empty field."""
        text = self.text(name, "").strip()
        if not text:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) <= 9):
            raise Refused(422, f"{name}={text[:40]!r}: give a whole number from 1, or leave it empty")
        return int(text)

    @property
    def back(self) -> str:
        """Where it stood."""
        return self.text("back", "")

    @property
    def is_confirmed(self) -> bool:
        return self._fields.get("confirmed") == "yes"

    def jobs(self) -> list[tuple[str, list[str]]]:
        """The chosen jobs: (queue, ids), queue by queue."""
        try:
            found = sorted(_job.decode(str(value)) for value in self._fields.getlist("job"))
        except msgspec.MsgspecError:
            raise Refused(422, "a chosen job cannot be read: load the page anew, then do it again") from None
        if not found:
            raise Refused(422, "no job was chosen: tick some, then do it again")
        if len(found) > MOST_JOBS:
            raise Refused(422, f"{len(found):,} jobs at once: choose at most {MOST_JOBS:,}")
        return [(queue, [id for _, id in some]) for queue, some in groupby(found, key=lambda pair: pair[0])]

    def again(self) -> Sequence[tuple[str, str]]:
        """All fields, to be sent once more."""
        return [
            (name, value) for name, value in self._fields.multi_items() if isinstance(value, str) and name != "csrf"
        ]


async def read_form(request: Request) -> Form:
    """What was sent."""
    return Form(await request.form(max_fields=MOST_FIELDS, max_files=0))


def ask_first(request: Request, form: Form, question: str, yes: str) -> Response:
    """The same form once more, with a question; where scripts run, that was asked on the page."""
    home = path_to(request, "/")
    return page(
        request,
        "ask.html",
        question=question,
        yes=yes,
        fields=form.again(),
        to=request.url.path,
        back=form.back if is_ours(form.back, home) else home,
    )
