"""The description of the API, as OpenAPI 3.1, made from the same table as its routes."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from duly.dashboard.api.table import JSON, Endpoint
from duly.dashboard.problems import MEDIA_TYPE, Problem
from duly.version import __version__

REF = "#/components/schemas/{name}"
OF_ALL = (401, 503)
OF_PARAMETERS = (404, 422)
OF_CHANGES = (400, 403, 408, 409, 413)
DESCRIPTION = (
    "Looking at a duly cluster and steering it. Moments are epoch seconds by the store's clock. What is named like a "
    "secret in arguments is hidden. Each error is one sentence, in a problem (RFC 9457)."
)


def description(endpoints: Sequence[Endpoint], server: str) -> dict[str, Any]:
    """The document. server: the path under which the API stands."""
    types = [one.gives for one in endpoints] + [one.takes for one in endpoints if one.takes] + [Problem]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    given = dict(zip([id(one) for one in endpoints], schemas, strict=False))
    paths: dict[str, Any] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, given[id(one)], components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "duly", "version": __version__, "description": DESCRIPTION},
        "servers": [{"url": server or "/"}],
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {str(status): _problem(status) for status in (*OF_ALL, *OF_PARAMETERS, *OF_CHANGES)},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {
                    "type": "apiKey", "in": "header", "name": "X-CSRF-Token",
                    "description": "With the cookie of a session: the token that its pages carry. Not needed to look.",
                },
            },
        },
    }  # fmt: skip


def _operation(one: Endpoint, gives: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    errors = [*OF_ALL, *(OF_PARAMETERS if one.takes else ()), *(OF_CHANGES if one.method == "POST" else ())]
    found: dict[str, Any] = {
        "operationId": f"{one.method.lower()}_{one.path.removeprefix('/api/').replace('/', '_').replace('-', '_')}",
        "summary": one.summary,
        "tags": [one.path.split("/")[2]],
        "responses": {
            "200": {"description": "It is so, or it is done.", "content": {JSON: {"schema": gives}}},
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(errors)},
        },
    }
    if one.takes is None:
        return found
    if one.method == "GET":
        return found | {"parameters": _parameters(components[one.takes.__name__])}
    schema = {"$ref": REF.format(name=one.takes.__name__)}
    return found | {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


def _parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": of}
        for name, of in schema["properties"].items()
    ]


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": REF.format(name=Problem.__name__)}
    return {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}


def table(endpoints: Sequence[Endpoint]) -> str:
    """The same for people: a table for each method, in Markdown."""
    parts = []
    for method, title in (("GET", "Parameters"), ("POST", "Body")):
        rows = [f"| {method} | {title} | What it is |", "|---|---|---|"]
        for one in endpoints:
            if one.method == method:
                takes = ", ".join(_field(field) for field in msgspec.structs.fields(one.takes)) if one.takes else ""
                rows.append(f"| `{one.path}` | {takes} | {one.summary} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _field(field: msgspec.structs.FieldInfo) -> str:
    """Its name, with its default, if there is one that says something."""
    if field.default in (msgspec.NODEFAULT, "", None):
        return f"`{field.name}`" + ("" if field.required else "?")
    return f"`{field.name}={field.default}`"
