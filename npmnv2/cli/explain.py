"""``npmnv2 explain``: one layer as code, with shapes, costs and values."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from npmnv2.cli.arguments import DEFAULT_MODEL, add_command, add_model
from npmnv2.cli.console import log_stderr
from npmnv2.errors import ArgumentError
from npmnv2.files import check_target

_EXAMPLES = (
    "explain block_3",
    "explain block_3_expand --photo cat.jpg --out channels.png",
    "explain predictions --photo cat.jpg --out where.jpg",
)


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "explain", explain, _EXAMPLES)
    command.add_argument("layer", metavar="LAYER", help="an endpoint: block_3, block_3_expand, predictions, …")
    command.add_argument("--photo", metavar="PHOTO", help="also minimum, mean, maximum, zeros and saturation on it")
    add_model(command, "-m", "--model", default=DEFAULT_MODEL, help=f"name or file (default: {DEFAULT_MODEL})")
    command.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="write a picture of its channels; of predictions, a heat map"
    )


def explain(options: argparse.Namespace) -> int:
    """Explain a layer: its definition as code that runs, shapes, costs, and what it makes of a photo."""
    from npmnv2.lab.explanation import explain_layer
    from npmnv2.loading import load

    if options.out is not None and options.photo is None:
        raise ArgumentError("--out needs --photo: a picture shows the layer's values on one")
    if options.out is not None:
        check_target(options.out)
    model = load(options.model)
    found = explain_layer(model, options.layer, options.photo)
    print(found)
    if options.out is not None:
        _write(model, found, options)
        log_stderr(f"wrote {options.out}")
    return 0


def _write(model: Any, found: Any, options: argparse.Namespace) -> None:
    from npmnv2.network.architecture import CLASSIFIER
    from npmnv2.results.pictures import write_picture

    if found.name == CLASSIFIER:
        model.explain(options.photo).save(options.out)
    else:
        write_picture(found.picture(), options.out)
