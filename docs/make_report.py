"""Draw the README's picture of a report: a network compared with a copy of it that pads as PyTorch does.

Needs Chromium. The photo is the cat in the package.

    python docs/make_report.py MODEL [PICTURE]
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

import npmnv2
from npmnv2.reports.comparison import write_comparison

PICTURE = Path(__file__).parent / "images" / "report.webp"
WIDTH, HEIGHT = 1000, 1240


def main(path: str, picture: str | Path = PICTURE) -> None:
    """Compare, print, write the page, and photograph its upper part."""
    model = npmnv2.load(path)
    port = type(model)(model.config.replace(tf_padding=False), model.weights, processor=model.processor)
    with resources.as_file(resources.files("npmnv2") / "data" / "cat.jpg") as cat, TemporaryDirectory() as folder:
        found = replace(npmnv2.compare(model, port, cat), reference=Path(path).stem, other="a port")
        print(found.verdict)
        page, shot = Path(folder, "report.html"), Path(folder, "report.png")
        write_comparison(found, page)
        options = ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}")
        subprocess.run(["chromium", *options, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True)
        with Image.open(shot) as image:
            image.convert("RGB").save(picture, quality=85, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
