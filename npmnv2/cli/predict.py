"""``npmnv2 predict``: classes of photos, or of their pixels."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from npmnv2.cli import masks
from npmnv2.cli.arguments import add_command, add_photos, positive
from npmnv2.cli.photos import Photo, exit_code, find_photos, images_of, load_model, run_options, usable_results

_EXAMPLES = (
    "predict cat.jpg",
    "predict photos/ -r --csv > classes.csv",
    "predict street.jpg -m deeplabv3_mnv2_pascal_train_aug --out mask.png --overlay seen.jpg",
    "predict - < cat.jpg",
)


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "predict", predict, _EXAMPLES)
    add_photos(command)
    command.add_argument("-k", "--top-k", type=positive, metavar="N", help="classes per photo (default: 5)")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--csv", action="store_true", help="one line a class")
    masks.add_options(command)


def predict(options: argparse.Namespace) -> int:
    """Classify photos, or with a segmentation model their pixels."""
    photos = find_photos(options)
    if not photos:
        return exit_code(0, 0)
    model = load_model(options)
    arguments, save = _arguments(options, model.task, photos)
    write = _writer(options)
    results = model.predict(images_of(photos), errors="return", **run_options(options), **arguments)
    usable = 0
    for photo, result in usable_results(results, photos, options):
        # Bytes from standard input have no name of their own.
        named = result if result.source == photo.name else dataclasses.replace(result, source=photo.name)
        save(photo, named)
        write(named)
        usable += 1
    return exit_code(usable, len(photos))


def _arguments(
    options: argparse.Namespace, task: str, photos: Sequence[Photo]
) -> tuple[dict[str, Any], Callable[[Photo, Any], None]]:
    """Arguments of `predict` for a model of this `task`, and what writes the files of a result."""
    if task == "segmentation":
        return masks.arguments(options), masks.saver(options, photos)
    masks.refuse_options(options, task)
    top_k = 5 if options.top_k is None else options.top_k
    return {"top_k": top_k}, lambda photo, result: None


def _writer(options: argparse.Namespace) -> Callable[[Any], None]:
    """How to print one result: JSON lines, CSV with one header, or a table."""
    if options.json:
        return lambda result: print(result.to_json())
    if options.csv:
        headers = iter([True])
        return lambda result: print(result.to_csv(header=next(headers, False)), end="")
    return print
