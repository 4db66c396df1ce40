"""What ``npmnv2 predict`` does beyond printing when the model is for segmentation: masks and overlays as files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from npmnv2.errors import ArgumentError

# The options that say something of segmentation only, and the arguments of `predict` that they are.
_ARGUMENTS = ("transform", "scales", "flip")
_FILES = ("out", "overlay")

# What looks like one of these is meant as a file, not as a folder.
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of segmentation to a command."""
    group = command.add_argument_group("segmentation")
    group.add_argument("-o", "--out", metavar="PATH", help="write masks: a .png file, or a folder for several photos")
    group.add_argument("--overlay", metavar="PATH", help="write masks drawn over photos: a file, or a folder")
    group.add_argument("--transform", choices=("deeplab", "hf"), help="how photos are prepared (default deeplab)")
    group.add_argument("--scales", type=_numbers, metavar="A,B,…", help="average over sizes of the input: 0.5,1,1.5")
    group.add_argument("--flip", action="store_true", default=None, help="average with the mirrored photo")


def choices(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of a segmentation model's `predict`."""
    if options.top_k is not None:
        raise ArgumentError("--top-k is for classification; a segmentation model names one class per pixel")
    given = {name: getattr(options, name) for name in _ARGUMENTS}
    return {name: value for name, value in given.items() if value is not None}


def refuse_options(options: argparse.Namespace, task: str) -> None:
    """Report options that make no sense for a model of this `task`."""
    wrong = [f"--{name}" for name in (*_FILES, *_ARGUMENTS) if getattr(options, name) is not None]
    if wrong:
        raise ArgumentError(f"{', '.join(wrong)} must go with a segmentation model, got one for {task}")


def saver(options: argparse.Namespace, paths: Sequence[str]) -> Callable[[Any], Any]:
    """A function that writes the files of one result and returns the result.

    Raises
    ------
    ValueError
        If two files would go to one place, several to one file, or one to where a photo is.
    """
    masks = _targets(options.out, paths, ".png")
    overlays = _targets(options.overlay, paths, ".jpg")
    _check_collisions([*masks.values(), *overlays.values()], paths)
    for target in {*masks.values(), *overlays.values()}:
        target.parent.mkdir(parents=True, exist_ok=True)

    def save(result: Any) -> Any:
        mask, overlay = masks.get(result.source), overlays.get(result.source)
        if mask or overlay:
            result.save(mask, overlay)
        return result

    return save


def _targets(where: str | None, paths: Sequence[str], suffix: str) -> dict[str, Path]:
    """Where the file of each photo goes: `where` itself, or `where` as a folder, with the photo's name."""
    if where is None:
        return {}
    if len(paths) == 1 and Path(where).suffix and not Path(where).is_dir():
        return {paths[0]: Path(where)}
    if len(paths) > 1 and Path(where).suffix.lower() in _PICTURES and not Path(where).is_dir():
        raise ArgumentError(f"{where} must be a folder, got a file's name for {len(paths)} photos")
    return {path: Path(where) / (Path(path).stem + suffix) for path in paths}


def _check_collisions(targets: Sequence[Path], paths: Sequence[str]) -> None:
    taken = {Path(path).resolve(): "is a photo" for path in paths}
    for target in targets:
        place = target.resolve()
        if place in taken:
            raise ArgumentError(f"{target} must not be written: it {taken[place]}; choose another folder")
        taken[place] = "would be written twice, by photos of one name or by --out and --overlay"


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers with commas between, got {text!r}") from None
