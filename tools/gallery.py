"""Make the gallery: run the commands of docs/gallery.md, and keep what they print and the pictures that they write.

    python tools/gallery.py

Models come from the cache, or are downloaded. Photos come from scikit-image, and a report in HTML is photographed by
Chromium; both must be installed.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

from PIL import Image

PAGE = Path(__file__).resolve().parents[1] / "docs" / "gallery.md"
PICTURES = PAGE.parent / "images" / "gallery"
LONGEST_SIDE, QUALITY = 600, 75  # of a picture, so that it stays small
REPORT_WINDOW = "1100,1400"
MOST_LINES = 14  # of what a command prints

COMMAND = re.compile(r"^```console\n\$ (?P<command>.*)\n(?P<printed>(?:.*\n)*?)```$", re.MULTILINE)
PICTURE = re.compile(r"\]\(images/gallery/(?P<name>\w+)\.webp\)")


def main() -> None:
    """Run all commands in a folder with the photos; write the page and its pictures."""
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        collect_photos(folder)
        page = COMMAND.sub(lambda match: block(match["command"], folder), page)
        for stem in PICTURE.findall(page):
            keep(folder, stem)
    PAGE.write_text(page, encoding="utf-8")


def collect_photos(folder: Path) -> None:
    """Put the photos that the commands name into a folder."""
    from skimage import data

    with resources.as_file(resources.files("npmnv2") / "data" / "cat.jpg") as cat:
        shutil.copy(cat, folder)
    for photo in (data.astronaut, data.chelsea, data.coffee):
        Image.fromarray(photo()).save(folder / f"{photo.__name__}.png")


def block(command: str, folder: Path) -> str:
    """A command and what it prints, as the page shows it."""
    return f"```console\n$ {command}\n{shortened(printed_by(command, folder))}```"


def printed_by(command: str, folder: Path) -> str:
    """What a command of npmnv2 prints in a folder."""
    words = [sys.executable, "-m", *shlex.split(command)]
    return subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, text=True, check=False).stdout


def shortened(printed: str) -> str:
    lines = [line.rstrip() for line in printed.splitlines()]
    kept = lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "…"]
    return "".join(f"{line}\n" for line in kept)


def keep(folder: Path, stem: str) -> None:
    """Store what a command wrote under this name as a small picture."""
    written = next(folder.glob(f"{stem}.*"))
    if written.suffix == ".html":
        written = photographed(written)
    with Image.open(written) as picture:
        small = picture.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE * 2), Image.Resampling.LANCZOS)
    small.save(PICTURES / f"{stem}.webp", quality=QUALITY, method=6)


def photographed(report: Path) -> Path:
    """A picture of a page in HTML."""
    picture = report.with_suffix(".png")
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={REPORT_WINDOW}"]
    subprocess.run(["chromium", *options, f"--screenshot={picture}", report.as_uri()], check=True, capture_output=True)
    return picture


if __name__ == "__main__":
    PICTURES.mkdir(parents=True, exist_ok=True)
    main()
