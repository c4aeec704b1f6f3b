"""The Django app: it finds the `tasks` modules of all apps."""

from __future__ import annotations

from django.apps import AppConfig  # type: ignore[import-untyped]
from django.utils.module_loading import autodiscover_modules  # type: ignore[import-untyped]

from duly.contrib.django.project import get_scheduler


class DulyConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """`duly.contrib.django` in INSTALLED_APPS."""

    name = "duly.contrib.django"
    label = "duly"
    verbose_name = "duly"

    def ready(self) -> None:
        """Make the scheduler, so that a wrong setting is said at the start, and import `tasks` of each app that has it."""
        get_scheduler()
        autodiscover_modules("tasks")
