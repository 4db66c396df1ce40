"""``npmnv2 predict``: classes of photos or of their pixels, or what is where on them."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from npmnv2.cli import boxes, masks, tables
from npmnv2.cli.arguments import add_command, add_photos, positive
from npmnv2.cli.console import log_stderr
from npmnv2.cli.photos import Photo, exit_code, find_photos, images_of, load_model, run_options, usable_results
from npmnv2.errors import ArgumentError
from npmnv2.files import check_target

_EXAMPLES = (
    "predict cat.jpg",
    "predict photos/ -r --csv > classes.csv",
    "predict street.jpg -m deeplabv3_mnv2_pascal_train_aug --out mask.png --overlay seen.jpg",
    "predict street.jpg -m ssdlite_mobilenet_v2_coco --threshold 0.3 --out boxes.png",
    "predict - < cat.jpg",
    "predict photos/ --html seen.html",
    "predict 's3://bucket/**/*.jpg' --out classes.parquet --workers 8",
)

# What only models of a task know: modules that write files, and options.
_FILES: dict[str, Any] = {"segmentation": masks, "detection": boxes}
_OPTIONS = {"classification": ("top_k",), **{task: module.OPTIONS for task, module in _FILES.items()}}


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "predict", predict, _EXAMPLES)
    add_photos(command)
    command.add_argument("-k", "--top-k", type=positive, metavar="N", help="classes per photo (default: 5)")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--csv", action="store_true", help="one line a class, or a box")
    form.add_argument(
        "--coco", action="store_true", default=None, help="boxes as one list in COCO's format for results"
    )
    command.add_argument(
        "-o", "--out", metavar="PATH", help="write masks (.png), or photos with boxes: a file, or a folder for several"
    )
    command.add_argument("--html", type=Path, metavar="FILE", help="also write a page with pictures for a browser")
    masks.add_options(command)
    boxes.add_options(command)
    tables.add_options(command)


def predict(options: argparse.Namespace) -> int:
    """Classify photos, with a segmentation model their pixels, or with a detector find things on them."""
    if tables.is_wanted(options):
        model = load_model(options)
        arguments = _task_arguments(options, model.task, also=("out", "masks"))
        return tables.write(options, model, masks=bool(options.masks), **arguments)
    photos = find_photos(options)
    if not photos:
        return exit_code(0, 0)
    model = load_model(options)
    arguments, save = _arguments(options, model.task, photos)
    write, finish = _writer(options)
    report, finish_report = _report(options)
    results = model.predict(images_of(photos), errors="return", **run_options(options), **arguments)
    usable = 0
    for photo, result in usable_results(results, photos, options):
        # Bytes from standard input have no name of their own.
        named = result if result.source == photo.name else dataclasses.replace(result, source=photo.name)
        save(photo, named)
        write(named)
        report(photo, named)
        usable += 1
    finish()
    finish_report()
    return exit_code(usable, len(photos))


def _arguments(
    options: argparse.Namespace, task: str, photos: Sequence[Photo]
) -> tuple[dict[str, Any], Callable[[Photo, Any], None]]:
    """Arguments of `predict` for a model of this `task`, and what writes the files of a result."""
    arguments = _task_arguments(options, task)
    return arguments, _FILES[task].saver(options, photos) if task in _FILES else lambda photo, result: None


def _task_arguments(options: argparse.Namespace, task: str, also: Sequence[str] = ()) -> dict[str, Any]:
    """Arguments of `predict`; options of other tasks must not be given, but for those in `also`."""
    given = {name for names in _OPTIONS.values() for name in names if getattr(options, name) is not None}
    if wrong := sorted(given - {*_OPTIONS.get(task, ()), *also}):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
        raise ArgumentError(f"{flags} must be left out: this model is for {task}")
    if task not in _FILES:
        return {"top_k": 5 if options.top_k is None else options.top_k}
    return {name: getattr(options, name) for name in _FILES[task].ARGUMENTS if name in given}


def _report(options: argparse.Namespace) -> tuple[Callable[[Photo, Any], None], Callable[[], None]]:
    """How to add one result to the page that was asked for, and what writes it after the last."""
    if options.html is None:
        return lambda photo, result: None, lambda: None
    from npmnv2.reports.predictions import PredictionsReport

    check_target(options.html)
    made = PredictionsReport(Path(options.model).name)

    def write() -> None:
        made.write(options.html)
        log_stderr(f"wrote {options.html}")

    return lambda photo, result: made.add(result, photo.image), write


def _writer(options: argparse.Namespace) -> tuple[Callable[[Any], None], Callable[[], None]]:
    """How to print one result, as JSON lines, CSV with one header, or a table; and what to do after the last."""
    if options.json:
        return lambda result: print(result.to_json()), lambda: None
    if options.csv:
        headers = iter([True])
        return lambda result: print(result.to_csv(header=next(headers, False)), end=""), lambda: None
    if options.coco:
        found: list[Any] = []
        return lambda result: found.extend(result.to_coco()), lambda: print(json.dumps(found))
    return print, lambda: None
