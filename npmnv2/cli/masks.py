"""What ``npmnv2 predict`` does beyond printing when the model is for segmentation: masks and overlays as files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from npmnv2.cli.arguments import positive_numbers
from npmnv2.cli.photos import SUFFIXES, Photo
from npmnv2.errors import ArgumentError

# Options for segmentation only: arguments of `predict`, and files to write.
_ARGUMENTS = ("scales", "flip")
_FILES = ("out", "overlay")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of segmentation to a command."""
    group = command.add_argument_group("segmentation")
    group.add_argument("-o", "--out", metavar="PATH", help="write masks: a .png file, or a folder for several photos")
    group.add_argument("--overlay", metavar="PATH", help="write masks over their photos: an image file, or a folder")
    group.add_argument(
        "--scales", type=positive_numbers, metavar="A,B,…", help="average over sizes of the input: 0.5,1,1.5"
    )
    group.add_argument("--flip", action="store_true", default=None, help="average with the mirrored photo")


def arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of a segmentation model's `predict`."""
    if options.top_k is not None:
        raise ArgumentError("--top-k is for classification; a segmentation model names one class per pixel")
    given = {name: getattr(options, name) for name in _ARGUMENTS}
    return {name: value for name, value in given.items() if value is not None}


def refuse_options(options: argparse.Namespace, task: str) -> None:
    """Report options that make no sense for a model of this `task`."""
    wrong = [f"--{name}" for name in (*_FILES, *_ARGUMENTS) if getattr(options, name) is not None]
    if wrong:
        raise ArgumentError(f"{', '.join(wrong)} need a segmentation model, and this one is for {task}")


def saver(options: argparse.Namespace, photos: Sequence[Photo]) -> Callable[[Photo, Any], None]:
    """Return a function that writes the files of one photo's result.

    Raises
    ------
    ArgumentError
        If two results would be written to one file, or one over a photo.
    """
    masks = _targets(options.out, photos, ".png")
    overlays = _targets(options.overlay, photos, ".jpg")
    if any(path.suffix.lower() != ".png" for path in masks.values()):
        raise ArgumentError(f"--out (={options.out!r}) must end in .png, which keeps labels exactly, or be a folder")
    _check_collisions([*masks.values(), *overlays.values()], photos)
    for target in {*masks.values(), *overlays.values()}:
        target.parent.mkdir(parents=True, exist_ok=True)

    def save(photo: Photo, result: Any) -> None:
        mask, overlay = masks.get(photo.name), overlays.get(photo.name)
        if mask or overlay:
            result.save(mask, overlay)

    return save


def _targets(where: str | None, photos: Sequence[Photo], suffix: str) -> dict[str, Path]:
    """Where the file of each photo goes: `where` itself, or `where` as a folder, with the photo's name."""
    if where is None:
        return {}
    if len(photos) == 1 and Path(where).suffix and not Path(where).is_dir():
        return {photos[0].name: Path(where)}
    if len(photos) > 1 and Path(where).suffix.lower() in SUFFIXES and not Path(where).is_dir():
        raise ArgumentError(f"{where} must be a folder where there are {len(photos)} photos")
    return {photo.name: Path(where) / (photo.stem + suffix) for photo in photos}


def _check_collisions(targets: Sequence[Path], photos: Sequence[Photo]) -> None:
    taken = {Path(photo.name).resolve(): "is a photo" for photo in photos}
    for target in targets:
        place = target.resolve()
        if place in taken:
            raise ArgumentError(f"{target} must not be written: it {taken[place]}; choose another folder")
        taken[place] = "would be written twice, by photos of one name or by --out and --overlay"
