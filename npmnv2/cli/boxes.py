"""What ``npmnv2 predict`` does beyond printing when the model is a detector: photos with boxes as files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from npmnv2.cli.arguments import positive, share
from npmnv2.cli.outputs import make_folders, targets
from npmnv2.cli.photos import Photo

# Options that are arguments of `predict`, and all that only this task knows.
ARGUMENTS = ("threshold", "iou", "nms", "max_detections")
OPTIONS = ("out", "coco", *ARGUMENTS)


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of detection to a command."""
    group = command.add_argument_group("detection")
    group.add_argument("--threshold", type=share, metavar="S", help="report scores above this, 0…1 (default: 0.5)")
    group.add_argument("--max-detections", type=positive, metavar="N", help="boxes per photo (default: 100)")
    group.add_argument(
        "--nms", choices=("per_class", "agnostic"), help="drop overlapping boxes of one class, or of any class"
    )
    group.add_argument("--iou", type=share, metavar="S", help="from which overlap on, 0…1 (default: as the model says)")


def saver(options: argparse.Namespace, photos: Sequence[Photo]) -> Callable[[Photo, Any], None]:
    """Return a function that writes the picture of one photo's result."""
    pictures = targets(options.out, photos, ".jpg")
    make_folders(list(pictures.values()), photos)

    def save(photo: Photo, result: Any) -> None:
        if photo.name in pictures:
            result.save(pictures[photo.name])

    return save
