"""``npmnv2 quantize``: a float network to integers, calibrated on photos."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from npmnv2.cli.arguments import add_command, add_model
from npmnv2.cli.console import log_stderr
from npmnv2.cli.photos import find_photos, images_of
from npmnv2.files import check_target

_EXAMPLES = (
    "quantize mobilenet_v2_1.0_224 photos/ --out model_int8.h5",
    "quantize model.h5 photos/ --out model_int8.tflite --method mse",
    "quantize model.h5 photos/ --out model_uint8.tflite --dtype uint8 --equalize",
)


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    from npmnv2.weights.calibration import METHODS

    command = add_command(commands, "quantize", quantize, _EXAMPLES)
    add_model(command, "model", metavar="MODEL", help="name or file of a float network")
    command.add_argument("photos", nargs="+", metavar="PHOTO", help="files, folders or patterns to calibrate with")
    command.add_argument(
        "-o", "--out", type=_file_of_integers, required=True, metavar="FILE", help=".h5, or .tflite for LiteRT"
    )
    command.add_argument("--method", default="minmax", choices=METHODS, help="how a range follows from values")
    command.add_argument("--percentile", type=float, default=99.99, metavar="P", help="of values inside the range")
    command.add_argument("--dtype", default="int8", choices=("int8", "uint8"), help="default: int8, per channel")
    command.add_argument("--equalize", action="store_true", help="first bring channels to similar sizes")
    command.add_argument(
        "--keep-biases", action="store_true", help="do not take off what rounding adds to channels on average"
    )
    command.add_argument("-r", "--recursive", action="store_true", help="also search folders inside folders")
    command.set_defaults(null=False)


def _file_of_integers(text: str) -> Path:
    """Path whose suffix is that of a format that holds integers; others would be refused after all the work."""
    if Path(text).suffix.lower() not in (".h5", ".hdf5", ".tflite"):
        raise argparse.ArgumentTypeError(f"must end in .h5 or .tflite, got {text!r}")
    return Path(text)


def quantize(options: argparse.Namespace) -> int:
    """Quantize a float network with the ranges that its values have on photos."""
    from npmnv2.lab.quantization import quantization_report
    from npmnv2.loading import load
    from npmnv2.weights_tools import write

    check_target(options.out)
    photos = list(images_of(find_photos(options)))
    model = load(options.model)
    quantized = model.quantize(
        photos,
        method=options.method,
        percentile=options.percentile,
        dtype=options.dtype,
        equalize=options.equalize,
        correct_biases=not options.keep_biases,
    )
    print(quantization_report(model, quantized, photos))
    write(quantized.to_checkpoint(), options.out)
    log_stderr(f"wrote {options.out}")
    return 0
