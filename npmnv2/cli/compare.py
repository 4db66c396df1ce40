"""``npmnv2 compare``: two runs of one network, ours or another framework's, layer by layer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from npmnv2.cli.arguments import add_command, add_model
from npmnv2.cli.console import log_stderr
from npmnv2.errors import ArgumentError
from npmnv2.files import check_target

_EXAMPLES = (
    "compare reference.h5 port.tflite cat.jpg",
    "compare model.h5@float64 cat.jpg                     # the reference in double precision, then as it is",
    "compare model.h5@float64 port.tflite@litert cat.jpg  # the file in its own runtime",
    "compare model.h5 port.onnx cat.jpg",
    "compare model.h5 dumped.npz cat.jpg",
    "compare model.h5 port.tflite cat.jpg --html report.html",
    "compare model.h5 int8.h5 cat.jpg --steps --litert",
)
_SIDE = (
    "name or file, and after @ how to run it: a backend, float64, bf16, an arithmetic, or keras, torch, litert, "
    "onnxruntime, tensorflow, activations"
)


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "compare", compare, _EXAMPLES)
    add_model(command, "first", metavar="REFERENCE", help=_SIDE)
    add_model(command, "second", metavar="OTHER", nargs="?", help="what to check (default: the reference's file again)")
    command.add_argument("photo", metavar="PHOTO", help="both see what the reference makes of it")
    command.add_argument("--own-input", action="store_true", help="each model prepares the photo in its own way")
    command.add_argument("--no-diagnosis", action="store_true", help="do not look for known faults")
    command.add_argument("--json", action="store_true", help="everything, as JSON")
    command.add_argument("--html", type=Path, metavar="FILE", help="also write a page for a browser")
    command.add_argument(
        "--steps", action="store_true", help="a quantized model in every arithmetic, in units of each value's scale"
    )
    command.add_argument("--litert", action="store_true", help="with --steps: also run it in LiteRT")
    command.add_argument(
        "--tolerance", type=float, default=1e-3, metavar="SHARE", help="of a layer's largest value (0.001)"
    )


def compare(options: argparse.Namespace) -> int:
    """Compare two runs of a network, ours or another framework's, layer by layer, and name known faults."""
    from npmnv2.lab.adapters.selection import split_options
    from npmnv2.lab.compare import compare as compare_runs

    _check(options)
    if options.steps:
        return _compare_steps(options)
    found = compare_runs(
        options.first,
        options.second or split_options(options.first)[0],
        options.photo,
        tolerance=options.tolerance,
        own_input=options.own_input,
        diagnose=not options.no_diagnosis,
    )
    print(found.to_json(indent=1) if options.json else found)
    if options.html is not None:
        from npmnv2.reports.comparison import write_comparison

        write_comparison(found, options.html)
        log_stderr(f"wrote {options.html}")
    return 0 if found.agree else 1


def _check(options: argparse.Namespace) -> None:
    """Refuse at once what would be ignored, or fail when everything has been computed."""
    if options.litert and not options.steps:
        raise ArgumentError("--litert needs --steps; to compare with a file in LiteRT: FILE.tflite@litert")
    if options.steps and (options.json or options.html is not None):
        raise ArgumentError("--json and --html must be left out with --steps")
    if options.html is not None:
        check_target(options.html)


def _compare_steps(options: argparse.Namespace) -> int:
    from npmnv2.lab.side_by_side import side_by_side
    from npmnv2.loading import load

    model = load(options.second or options.first)
    reference = load(options.first) if options.second else None
    if reference is not None and reference.quantization is not None:
        reference = None
    print(side_by_side(model, options.photo, reference, options.litert))
    log_stderr("differences from the integers of XNNPACK's arithmetic")
    return 0
