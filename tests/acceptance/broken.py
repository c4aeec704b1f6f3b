"""An application that cannot be imported."""

from __future__ import annotations

if True:
    raise KeyError("nothing here")
