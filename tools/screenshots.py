"""Takes the pictures of docs/screens/: every screen of the dashboard over a small world, light and dark, wide and on a phone.

`python -m tools.screenshots` takes all; `--only NAME` those of one screen; `--serve` leaves the world running to be looked at.
It needs Chromium and Pillow.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import shutil
import socket
import tempfile
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.async_api import Browser, async_playwright

from duly import Scheduler
from duly.dashboard import Access, dashboard
from tools.screenshots_world import world

SCREENS = Path(__file__).parent.parent / "docs" / "screens"
PAGES = {
    "overview": "", "queues": "queues", "jobs": "jobs?state=pending", "running": "jobs?state=leased",
    "job": "job?queue=media&id=video%2F000", "dead-job": "job?queue=default&id=charge:1701", "dead": "dead",
    "schedules": "schedules", "schedule": "schedule?queue=default&id=prices&hours=24", "ticks": "ticks?queue=default&hours=1",
    "nodes": "nodes", "locks": "locks", "doctor": "doctor", "error": "job?queue=mail&id=gone",
}  # fmt: skip
SIZES = {"wide": (1280, 860), "phone": (390, 844)}
PASSWORD = "only for the pictures"
COLOURS = (128, 48, 24)
LARGEST = 60_000
"""Bytes of a picture; with fewer colours if need be."""
SETTLE_MS = 900


async def _served(scheduler: Scheduler, access: Access, port: int) -> tuple[uvicorn.Server, asyncio.Task[None]]:
    server = uvicorn.Server(uvicorn.Config(dashboard(scheduler, access=access), port=port, log_level="warning"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has no event for it
        await asyncio.sleep(0.05)
    return server, task


async def _take(browser: Browser, name: str, url: str, scheme: str, size: str, folder: Path) -> None:
    width, height = SIZES[size]
    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB", device_scale_factor=1  # type: ignore[arg-type]
    )  # fmt: skip
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_timeout(SETTLE_MS)
    picture = Image.open(io.BytesIO(await page.screenshot()))
    for colours in COLOURS:
        packed = io.BytesIO()
        picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(packed, "png", optimize=True)
        if packed.tell() <= LARGEST:
            break
    (folder / f"{name}-{size}-{scheme}.png").write_bytes(packed.getvalue())
    await context.close()


async def main(only: list[str], serve: bool, folder: Path) -> None:
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], other.getsockname()[1]
        one.close(), other.close()
        async with world() as scheduler:
            servers = [
                await _served(scheduler, Access(open=True), ports[0]),
                await _served(scheduler, Access(password=PASSWORD), ports[1]),
            ]
            try:
                if serve:
                    print(f"http://127.0.0.1:{ports[0]}/", flush=True)
                    await asyncio.Event().wait()
                await _take_all(only, folder, *(f"http://127.0.0.1:{port}/" for port in ports))
            finally:
                for server, task in servers:
                    server.should_exit = True
                    await task


async def _take_all(only: list[str], folder: Path, open_: str, guarded: str) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    wanted = {name: open_ + path for name, path in PAGES.items()} | {"login": f"{guarded}login"}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, url in wanted.items():
            if not only or name in only:
                for scheme in ("light", "dark"):
                    for size in SIZES:
                        await _take(browser, name, url, scheme, size, folder)
        await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--folder", type=Path, default=SCREENS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    folder = given.folder.absolute()
    with (
        tempfile.TemporaryDirectory() as place,
        contextlib.chdir(place),
    ):  # what is shown names no folder of this machine
        asyncio.run(main(given.only, given.serve, folder))
