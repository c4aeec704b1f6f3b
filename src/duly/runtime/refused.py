"""The handler of jobs that were refused as they came out of the store (`stores.sealed`): it fits none of them."""

from __future__ import annotations

from typing import Any

from duly.core import codec
from duly.core.job import Options
from duly.errors import UnfitJob
from duly.runtime.handler import Handler
from duly.stores.sealed import REFUSED


class Refusing(Handler):
    """Nothing is run by it: its jobs end as misfits do."""

    def bind(self, envelope: codec.Envelope) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Raises UnfitJob, always."""
        given = codec.unpack(envelope.args)
        raise UnfitJob("arguments", f"the job is refused: {given[0] if isinstance(given, list) and given else ''}")


def _unfit(_why: str) -> None: ...


def refusing() -> Handler:
    """The handler, on every node."""
    return Refusing(REFUSED, _unfit, Options(name=REFUSED))
