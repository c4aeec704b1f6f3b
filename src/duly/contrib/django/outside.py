"""The way into a Django project for processes that Django did not start: workers of a supervisor, child processes, and
`duly worker duly.contrib.django.outside:scheduler`. $DJANGO_SETTINGS_MODULE names the project; its import sets it up."""

from __future__ import annotations

import importlib
from types import ModuleType

import django  # type: ignore[import-untyped]
from django.apps import apps  # type: ignore[import-untyped]

from duly.contrib.django.project import get_scheduler

if not apps.ready:
    django.setup()

scheduler = get_scheduler()


class _Modules:
    """Each module as an attribute, with a slash for each dot: `duly.runtime.locate` takes names apart at dots."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(name.replace("/", "."))


handlers = _Modules()
