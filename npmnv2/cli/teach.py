"""``npmnv2 teach``: a classifier of your own classes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from npmnv2.backends.selection import BACKENDS
from npmnv2.cli.arguments import DEFAULT_MODEL, TRANSFORMS, add_command, add_model, add_threads, positive
from npmnv2.cli.console import log_stderr, progress
from npmnv2.errors import ArgumentError
from npmnv2.files import check_target

_EXAMPLES = (
    "teach photos/ --out mine.h5                  # photos/cat/1.jpg, photos/dog/1.jpg, ...",
    "teach photos/ --out mine.h5 --html report.html --test held_out/",
    "teach photos/ --out mine --transform hf      # a directory for transformers",
    "teach photos/ --out mine.tflite -m mobilenet_v2_1.0_224",
)


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "teach", teach, _EXAMPLES)
    command.add_argument("photos", metavar="FOLDER", help="holds a folder of photos for each class")
    command.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="PATH",
        help=".h5 for npmnv2 and Keras; .tflite, .onnx, .npz; a directory for transformers",
    )
    command.add_argument("--test", metavar="FOLDER", help="photos set aside, in the same folders, to measure with")
    command.add_argument("--html", type=Path, metavar="FILE", help="also write the report as a page for a browser")
    command.add_argument("--json", action="store_true", help="the report as one JSON object")
    command.add_argument("-r", "--recursive", action="store_true", help="also search folders inside the classes")
    add_model(command, "-m", "--model", default=DEFAULT_MODEL, help=f"whose features (default: {DEFAULT_MODEL})")
    command.add_argument("--transform", choices=TRANSFORMS, help="how photos are prepared (default: as the model says)")
    command.add_argument("--folds", type=_folds, default=5, metavar="N", help="of cross-validation (default: 5)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the division into folds (default: 0)")
    command.add_argument("--backend", default="auto", choices=BACKENDS, help="default: the fastest that is installed")
    command.add_argument("--batch-size", type=positive, default=8, metavar="N", help="photos run at once (default: 8)")
    command.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    add_threads(command)


def _folds(text: str) -> int:
    if (count := positive(text)) < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2, got {text!r}")
    return count


def _check_outputs(options: argparse.Namespace) -> None:
    """Say before all the work what cannot be written."""
    from npmnv2.weights_tools import target_format

    out = Path(options.out)
    if target_format(out) != "transformers":
        check_target(out)
    elif out.is_file():
        raise NotADirectoryError(f"{out} must be a directory, got a file")
    elif out.resolve() == Path(options.photos).resolve():
        raise ArgumentError(f"--out (={options.out!r}) must not be the folder of the photos")
    if options.html is not None:
        check_target(options.html)


def teach(options: argparse.Namespace) -> int:
    """Teach a classifier your own classes, from a folder of photos for each."""
    from npmnv2.learn.logistic import require_sklearn
    from npmnv2.learn.photos import labeled_photos
    from npmnv2.learn.teaching import teach as teach_classes

    require_sklearn("npmnv2 teach")
    _check_outputs(options)
    folders = [folder for folder in (options.photos, options.test) if folder is not None]
    count = sum(len(labeled_photos(folder, options.recursive).photos) for folder in folders)
    with progress(count, options.quiet) as bar:
        taught = teach_classes(
            options.photos,
            model=options.model,
            test=options.test,
            transform=options.transform,
            recursive=options.recursive,
            errors="skip",
            folds=options.folds,
            seed=options.seed,
            batch_size=options.batch_size,
            backend=options.backend,
            n_threads=options.threads,
            on_photo=bar.update,
        )
    report = taught.report
    for reason in report.skipped:
        log_stderr(reason)
    taught.save(options.out)
    print(report.to_json() if options.json else report)
    log_stderr(f"wrote {options.out}")
    if options.html is not None:
        from npmnv2.reports.teaching import write_teaching

        write_teaching(report, options.html)
        log_stderr(f"wrote {options.html}")
    if report.skipped:
        log_stderr(f"{len(report.skipped)} of {count} photos could not be used")
    return 1 if report.skipped else 0
