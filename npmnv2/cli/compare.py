"""``npmnv2 compare``: two models, or two backends of one, layer by layer."""

from __future__ import annotations

import argparse
from typing import Any

from npmnv2.backends.selection import BACKENDS
from npmnv2.cli.arguments import add_command, add_model
from npmnv2.cli.console import log_stderr

_EXAMPLES = (
    "compare reference.h5 port.tflite cat.jpg",
    "compare model.h5 cat.jpg --backend numpy --dtype float64",
    "compare model.h5 int8.h5 cat.jpg --steps --litert",
)


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "compare", compare, _EXAMPLES)
    add_model(command, "first", metavar="REFERENCE", help="name or file")
    add_model(command, "second", metavar="MODEL", nargs="?", help="what to check (default: the reference again)")
    command.add_argument("photo", metavar="PHOTO", help="both see what the reference makes of it")
    command.add_argument("--backend", default="auto", choices=BACKENDS, help="of the reference")
    command.add_argument("--against", default="auto", choices=BACKENDS, help="backend of the second")
    command.add_argument("--dtype", default="float32", choices=("float32", "float64"), help="of the reference")
    command.add_argument(
        "--steps", action="store_true", help="a quantized model in every arithmetic, in units of each value's scale"
    )
    command.add_argument("--litert", action="store_true", help="with --steps: also run it in LiteRT")
    command.add_argument("--tolerance", type=float, default=1e-3, help="share of a layer's largest value (0.001)")


def compare(options: argparse.Namespace) -> int:
    """Compare two models, or two backends of one, layer by layer."""
    from npmnv2.lab.comparison import Comparison, compare_traces, not_comparable
    from npmnv2.loading import load

    if options.steps:
        return _compare_steps(options)
    first = load(options.first, backend=options.backend, dtype=options.dtype)
    second = load(options.second or options.first, backend=options.against)
    x = first.prepare([options.photo])
    traces = first.trace(x), second.trace(x)
    layers = compare_traces(*traces)
    names = options.first, options.second or options.first
    found = Comparison(*names, layers, left_out=not_comparable(*traces), tolerance=options.tolerance)
    print(found)
    return 0 if found.agree else 1


def _compare_steps(options: argparse.Namespace) -> int:
    from npmnv2.lab.side_by_side import side_by_side
    from npmnv2.loading import load

    model = load(options.second or options.first)
    reference = load(options.first, backend=options.backend, dtype=options.dtype) if options.second else None
    if reference is not None and reference.quantization is not None:
        reference = None
    print(side_by_side(model, options.photo, reference, options.litert))
    log_stderr("differences from the integers of XNNPACK's arithmetic")
    return 0
