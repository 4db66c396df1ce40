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
    command.add_argument("--tolerance", type=float, default=1e-3, help="share of a layer's largest value (0.001)")


def compare(options: argparse.Namespace) -> int:
    """Compare two models, or two backends of one, layer by layer."""
    from npmnv2.lab.numerics import compare as compare_traces
    from npmnv2.lab.numerics import difference_table, not_comparable, verdict
    from npmnv2.loading import load

    first = load(options.first, backend=options.backend, dtype=options.dtype)
    second = load(options.second or options.first, backend=options.against)
    x = first.prepare([options.photo])
    traces = first.trace(x), second.trace(x)
    differences = compare_traces(*traces)
    print(difference_table(differences))
    agree, sentence = verdict(differences, not_comparable(*traces), options.tolerance)
    log_stderr(sentence)
    return 0 if agree else 1
