"""Pages from templates. Whatever a template prints is escaped, and its control characters are written out.

What is put into a form to come back (an id in a hidden field) goes through `exact`, which escapes, but leaves it as it is.
"""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup, escape
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, Response

from duly.dashboard.pages import seam
from duly.views import words
from duly.views.words import absolute, counted, lasting, percent, printable, relative

DASH = "\N{EN DASH}"
LONGEST = 400
"""Characters of a text that stands in a line of its own."""
LONGEST_LINES = 20_000
"""Characters of a text that stands in a box: a traceback, arguments."""


def _printed(value: Any) -> Any:
    return value if isinstance(value, Markup) else printable(value)


def exact(value: object) -> Markup:
    """Escaped, and otherwise as it is."""
    return escape(str(value))


def lines(text: str) -> Markup:
    """For a box: line breaks stay, what is too long is cut, with its length."""
    return escape(printable(cut(text, LONGEST_LINES), lines=True))


def cut(value: object, most: int = LONGEST) -> str:
    """The beginning, and how long the whole is."""
    text = "" if value is None else str(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def number(value: float | None) -> str:
    """ "12,345"; a dash for None."""
    return DASH if value is None else f"{value:,}"


def compact(value: Any) -> str:
    """As JSON in one line."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)


def pretty(value: Any) -> str:
    """As JSON in lines."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def arguments(args: Any, kwargs: Any) -> str:
    """As they stand in a call: `42, to="a@b"`."""
    if args is None and kwargs is None:
        return ""
    parts = [compact(arg) for arg in args or ()]
    parts += [f"{name}={compact(value)}" for name, value in (kwargs or {}).items()]
    return ", ".join(parts)


def duration(seconds: float | None) -> str:
    """ "1.2 ms", "340 ms", "2.5 s", "3 m 20 s"; a dash for None."""
    if seconds is None:
        return DASH
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 99.95 else lasting(seconds)


def moment(at: float | None, now: float) -> Markup:
    """How far away it is; the script keeps that right, the title says when it is."""
    if at is None:
        return Markup('<span class="muted">{}</span>').format(DASH)
    return Markup('<time datetime="{}" title="{}" data-at="{:.3f}">{}</time>').format(
        machine(at), absolute(at), at, relative(at, now)
    )


def machine(at: float) -> str:
    """ISO 8601 in UTC; the empty text for what is beyond the years that a datetime can show."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return ""


@functools.cache
def environment() -> jinja2.Environment:
    """Jinja, with everything that templates use."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("duly.dashboard", "templates"),
        autoescape=True,
        finalize=_printed,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "exact": exact, "lines": lines, "cut": cut, "number": number, "pretty": pretty, "compact": compact,
        "duration": duration, "lasting": lasting, "percent": percent, "absolute": absolute, "machine": machine,
    }  # fmt: skip
    env.globals |= {"counted": counted, "moment": moment, "arguments": arguments, "relative": words.relative}
    return env


def link(request: HTTPConnection, path: str, **query: object) -> str:
    """The address of a screen, wherever the dashboard is mounted; what is None or empty is left out."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    root = str(request.scope.get("root_path", "")).rstrip("/")
    return f"{root}/{path}" + (f"?{urlencode(given, errors='replace')}" if given else "")


def page(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """A screen. What was said to the one who sent a form is shown once."""
    said = seam.take_note(request)
    html = (
        environment()
        .get_template(template)
        .render(
            href=functools.partial(link, request),
            here=request.url.path,
            query=str(request.url.query),
            csrf=seam.csrf_of(request),
            may_write=seam.may_write(request),
            is_guarded=seam.is_guarded(request),
            namespace=seam.scheduler_of(request).config.namespace,
            store=seam.scheduler_of(request).store.url,
            theme=theme(request),
            said=said,
            **context,
        )
    )
    response = HTMLResponse(html, status)
    if said is not None:
        seam.forget_note(request, response)
    return response


def theme(request: HTTPConnection) -> str:
    """light, dark, or the empty text: what the system says."""
    chosen = request.cookies.get("duly_theme", "")
    return chosen if chosen in ("light", "dark") else ""
