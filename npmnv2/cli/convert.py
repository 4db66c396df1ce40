"""``npmnv2 convert``: weights from one format to another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from npmnv2.cli.arguments import add_command, add_model
from npmnv2.cli.console import log_stderr

_EXAMPLES = (
    "convert model.tflite model.h5",
    "convert mobilenet_v2_1.0_224 my_model --to transformers",
    "convert model.h5 keras.h5 --to keras --num-classes 1000",
    "convert model.h5 model.onnx",
    "convert quantized.tflite keras.h5 --to keras --dequantize",
)


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "convert", convert, _EXAMPLES)
    add_model(command, "source", metavar="SOURCE", help="name, or weights in any format that npmnv2 reads")
    command.add_argument("target", metavar="TARGET", help="file or directory to write")
    command.add_argument("--to", metavar="FORMAT", help="format, where the name of the target does not say it")
    command.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")
    command.add_argument("--num-classes", type=int, choices=(1000, 1001), help="drop or add ImageNet's background")
    command.add_argument("--dequantize", action="store_true", help="write real numbers for the integers of the source")


def convert(options: argparse.Namespace) -> int:
    """Convert weights from one format to another."""
    from npmnv2.hub.locate import locate
    from npmnv2.weights_tools import convert as convert_file

    labels = Path(options.labels).read_text(encoding="utf-8").splitlines() if options.labels else None
    source = locate(options.source)
    written = convert_file(
        source,
        options.target,
        to=options.to,
        labels=labels,
        num_classes=options.num_classes,
        dequantize=options.dequantize,
    )
    log_stderr(f"wrote {options.target}")
    preset = written.preprocessing.get("preset")
    if (Path(options.target) / "preprocessor_config.json").is_file() and preset not in (None, "hf"):
        log_stderr(f"transformers cannot prepare photos as {preset!r} does; its own way was written for them instead")
    return 0
