"""What ``npmnv2 predict`` does beyond printing when the model is for segmentation: masks and overlays as files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from npmnv2.cli.arguments import positive_numbers
from npmnv2.cli.outputs import make_folders, targets
from npmnv2.cli.photos import Photo
from npmnv2.errors import ArgumentError

# Options that are arguments of `predict`, and all that only this task knows.
ARGUMENTS = ("scales", "flip")
OPTIONS = ("out", "overlay", *ARGUMENTS)


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of segmentation to a command."""
    group = command.add_argument_group("segmentation")
    group.add_argument("--overlay", metavar="PATH", help="write masks over their photos: an image file, or a folder")
    group.add_argument(
        "--scales", type=positive_numbers, metavar="A,B,…", help="average over sizes of the input: 0.5,1,1.5"
    )
    group.add_argument("--masks", action="store_true", help="in a table, add the masks as PNG files")
    group.add_argument("--flip", action="store_true", default=None, help="average with the mirrored photo")


def saver(options: argparse.Namespace, photos: Sequence[Photo]) -> Callable[[Photo, Any], None]:
    """Return a function that writes the files of one photo's result."""
    masks = targets(options.out, photos, ".png")
    overlays = targets(options.overlay, photos, ".jpg")
    if any(path.suffix.lower() != ".png" for path in masks.values()):
        raise ArgumentError(f"--out (={options.out!r}) must end in .png, which keeps labels exactly, or be a folder")
    make_folders([*masks.values(), *overlays.values()], photos)

    def save(photo: Photo, result: Any) -> None:
        mask, overlay = masks.get(photo.name), overlays.get(photo.name)
        if mask or overlay:
            result.save(mask, overlay)

    return save
