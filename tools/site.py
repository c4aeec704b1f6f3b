"""Builds the documentation site into site/: `python -m tools.site`; a warning is a failure.

The pages in docs/ are plain Markdown whose links work in the repository. Here they are laid out for the site, in build/docs:
README.md is its first page, and what pages link to outside of docs/ comes along.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
STAGED = ROOT / "build" / "docs"
NAMES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s:]+)(?P<anchor>#[^)]*)?(?=\))")


def place(source: str) -> str:
    """Where a file of the repository lies on the site."""
    return NAMES.get(source, source.removeprefix("docs/"))


def sources() -> list[str]:
    """The pages and pictures, by their paths in the repository."""
    files = (path for path in (ROOT / "docs").rglob("*") if path.is_file())
    return [*NAMES, *sorted(path.relative_to(ROOT).as_posix() for path in files)]


class Stage:
    """Copies files into build/docs, and what they link to."""

    def __init__(self, root: Path, target: Path) -> None:
        self._root, self._target = root, target
        self._done: set[str] = set()

    def add(self, source: str) -> None:
        """One file, with its links led to where their files are."""
        if source in self._done:
            return
        self._done.add(source)
        target = self._target / place(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".md"):
            target.write_text(self.rewritten(source, (self._root / source).read_text()))
        else:
            shutil.copy(self._root / source, target)

    def rewritten(self, source: str, text: str) -> str:
        """The page with the links that it needs on the site."""

        def link(found: re.Match[str]) -> str:
            path = posixpath.normpath((PurePosixPath(source).parent / found["path"]).as_posix())
            if not (self._root / path).exists():
                return found[0]  # the build says so
            if (self._root / path).is_dir():
                path = self._folder(path)
            else:
                self.add(path)
            start = PurePosixPath(place(source)).parent.as_posix()
            return posixpath.relpath(place(path), start) + (found["anchor"] or "")

        return LINK.sub(link, text)

    def _folder(self, path: str) -> str:
        """The page for a folder: its README, or a list of its files."""
        page = f"{path}/README.md"
        if (self._root / page).exists():
            self.add(page)
            return page
        files = sorted(file.name for file in (self._root / path).iterdir() if file.is_file())
        for name in files:
            self.add(f"{path}/{name}")
        listing = "".join(f"- [{name}]({name})\n" for name in files)
        (self._target / place(path)).mkdir(parents=True, exist_ok=True)
        (self._target / place(path) / "index.md").write_text(f"# {path}\n\n{listing}")
        return f"{path}/index.md"


def main() -> None:
    shutil.rmtree(STAGED, ignore_errors=True)
    stage = Stage(ROOT, STAGED)
    for source in sources():
        stage.add(source)
    build = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    print(said)
    if done.returncode or "No issues found" not in said or "arning" in said:
        raise SystemExit("the site has warnings: they are above")
    print(f"open {ROOT / 'site' / 'index.html'}")


if __name__ == "__main__":
    main()
