"""The screens, as routes of the dashboard; ids stand in the query of an address, as they may hold any character."""

from __future__ import annotations

from starlette.routing import Route

from duly.dashboard.pages import job, jobs, nodes, overview, plain, queues, schedule, schedules, ticks
from duly.dashboard.pages.plain import error_page, login_page

__all__ = ["error_page", "login_page", "routes"]

routes = [
    Route("/", overview.show),
    Route("/queues", queues.show),
    Route("/queues", queues.change, methods=["POST"]),
    Route("/jobs", jobs.show),
    Route("/jobs", jobs.change, methods=["POST"]),
    Route("/job", job.show),
    Route("/dead", plain.dead),
    Route("/dead", plain.change_dead, methods=["POST"]),
    Route("/schedules", schedules.show),
    Route("/schedules", schedules.change, methods=["POST"]),
    Route("/schedule", schedule.show),
    Route("/schedule/preview", schedule.preview),
    Route("/ticks", ticks.show),
    Route("/nodes", nodes.show),
    Route("/node", nodes.one),
    Route("/locks", plain.locks),
    Route("/doctor", plain.doctor),
    Route("/doctor/summary", plain.doctor_summary),
]
