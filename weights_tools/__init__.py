"""Reading and writing weights in the formats of other frameworks, without those frameworks.

One file a format. Everything that a file says is checked before it is believed: no reader runs code from a
file, allocates more than the file can fill, or fails other than by `npmnv2.WeightsError` (docs/weights.md).
"""

from __future__ import annotations

from npmnv2.weights.native import write_h5 as write_native
from npmnv2.weights.readers import FORMATS, detect_format
from npmnv2.weights.readers import read_checkpoint as read

from . import wiring
from .convert import WRITERS, convert, target_format, with_classes, with_labels, write
from .dequantize import dequantized
from .endpoints import endpoint_of
from .inspection import inspect
from .keras import write as write_keras
from .norms import unfolded
from .npz import write as write_npz
from .onnx_writer import onnx_bytes
from .onnx_writer import write as write_onnx
from .tflite_writer import tflite_bytes
from .tflite_writer import write as write_tflite
from .transformers import write as write_transformers

__all__ = [
    "FORMATS",
    "WRITERS",
    "convert",
    "dequantized",
    "detect_format",
    "endpoint_of",
    "inspect",
    "onnx_bytes",
    "read",
    "target_format",
    "tflite_bytes",
    "unfolded",
    "wiring",
    "with_classes",
    "with_labels",
    "write",
    "write_keras",
    "write_native",
    "write_npz",
    "write_onnx",
    "write_tflite",
    "write_transformers",
]
