"""Metadata of TFLite files: TensorFlow's own for tools on phones, a label file, and all that npmnv2 knows as JSON.

TensorFlow's metadata is a FlatBuffer inside the file, and the files that it names form a zip archive behind the model.
Schema: https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from npmnv2.weights.bounds import MAX_JSON_BYTES, damaged
from npmnv2.weights.checkpoint import Checkpoint

from .flatbuffer_writer import Scalar, Table, flatbuffer
from .graphs import processor_of
from .metadata import from_json, to_json

if TYPE_CHECKING:
    from .tflite import Model

_OWN, _STANDARD = "npmnv2", "TFLITE_METADATA"
_LABEL_FILE = "labels.txt"
# Of the schema's enums and unions.
_IMAGE, _NORMALIZATION, _AXIS_LABELS = 2, 1, 2
_UNKNOWN_COLORS, _COLORS = 0, {3: 1, 1: 2}
_MODEL_METADATA = 6


def entries(checkpoint: Checkpoint, outputs: Sequence[str]) -> dict[str, bytes]:
    """The entries of a file's metadata by name, given the names of what the file returns."""
    return {_OWN: to_json(checkpoint).encode(), _STANDARD: _standard(checkpoint, outputs)}


def archive(checkpoint: Checkpoint) -> bytes:
    """The archive behind the model, which holds the labels one a line; nothing where there are none."""
    if checkpoint.labels is None:
        return b""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        # A fixed time: the same network always gives the same file.
        opened.writestr(zipfile.ZipInfo(_LABEL_FILE), "\n".join(" ".join(label.split()) for label in checkpoint.labels))
    return packed.getvalue()


def stated(model: Model) -> dict[str, Any]:
    """Fields of `Content` that npmnv2's own entry states; none in a file by others.

    Raises
    ------
    WeightsError
        If the entry is damaged.
    """
    for entry in model.root.tables(_MODEL_METADATA, limit=100):
        if entry.text(0) == _OWN:
            data = model.buffer(entry.scalar(1, "uint32", 0))
            if len(data) > MAX_JSON_BYTES:
                raise damaged(model.path, f"{len(data):,} bytes", f"metadata {_OWN!r}")
            return from_json(model.path, bytes(data), f"metadata {_OWN!r}")
    return {}


def _standard(checkpoint: Checkpoint, outputs: Sequence[str]) -> bytes:
    subgraph = Table({2: [_input(checkpoint)], 3: [_output(name, checkpoint) for name in outputs]})
    description = f"MobileNetV2 for {checkpoint.task}"
    model = Table({0: "MobileNetV2", 1: description, 3: [subgraph], 5: checkpoint.source.get("license"), 7: "1.0.0"})
    return flatbuffer(model, b"M001")


def _input(checkpoint: Checkpoint) -> Table:
    processor = processor_of(checkpoint)
    factor = processor.rescale_factor if processor.do_rescale else 1.0
    mean, deviation = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
    # (pixel · factor − mean) / deviation, as TensorFlow writes it: (pixel − mean') / deviation'.
    scales = {slot: np.atleast_1d(np.float32(np.divide(value, factor))) for slot, value in ((0, mean), (1, deviation))}
    assert checkpoint.config is not None
    colors = _COLORS.get(checkpoint.config.num_channels, _UNKNOWN_COLORS)
    content = Table({0: Scalar("<B", _IMAGE), 1: Table({0: Scalar("<b", colors)})})
    unit = Table({0: Scalar("<B", _NORMALIZATION), 1: Table(scales)})
    return Table({0: "image", 1: "Prepared photo, channels last", 3: content, 4: [unit]})


def _output(name: str, checkpoint: Checkpoint) -> Table:
    labels = None
    if checkpoint.labels is not None:
        labels = [Table({0: _LABEL_FILE, 1: "Names of the classes", 2: Scalar("<b", _AXIS_LABELS)})]
    return Table({0: name, 6: labels})
