"""``npmnv2 demo``: the first prediction of a new user, with the weights that come with the package."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path
from typing import Any

from npmnv2.cli.arguments import DEFAULT_MODEL, add_command


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "demo", demo, ("demo", "demo my.jpg"))
    command.add_argument("photo", nargs="?", metavar="PHOTO", help="a photo of yours (default: the cat in the box)")


def demo(options: argparse.Namespace) -> int:
    """Classify a cat, or a photo of yours, with the weights that come with the package."""
    print(run(options.photo))
    return 0


def run(photo: str | None = None) -> str:
    """Predict `photo`, or the cat that comes with the package, and return a text for people.

    Raises
    ------
    FileNotFoundError, ImageError
        If the photo cannot be used.
    """
    if photo is not None and not Path(photo).is_file():
        raise FileNotFoundError(f"photo (={photo!r}) must be an existing file")
    from npmnv2.loading import load

    model = load(DEFAULT_MODEL)
    with resources.as_file(resources.files("npmnv2") / "data" / "cat.jpg") as cat:
        prediction = model.predict(photo if photo is not None else cat)
    title = f"{Path(str(prediction.source)).name} according to {DEFAULT_MODEL} ({model.backend.name} backend):"
    return "\n".join([title, *str(prediction).splitlines()[1:]])
