"""A TFLite graph in the making: tensors, operators and constants, as numbers that refer to each other.

Schema: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npmnv2.kernels import Variant, output_size, same_padding
from npmnv2.network.layers import Conv, Dense, Depthwise, Shape
from npmnv2.weights.bounds import Array

from .flatbuffer_writer import Scalar, Table, flatbuffer

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "int8": 9}
# Number, version, and kind of options of each operator.
_OPERATORS = {
    "ADD": (0, 2, 11),
    "AVERAGE_POOL_2D": (1, 2, 5),
    "CONCATENATION": (2, 2, 10),
    "CONV_2D": (3, 3, 1),
    "DEPTHWISE_CONV_2D": (4, 3, 2),
    "DEQUANTIZE": (6, 2, 0),
    "FULLY_CONNECTED": (9, 1, 8),
    "RESHAPE": (22, 1, 17),
    "RESIZE_BILINEAR": (23, 3, 15),
    "SOFTMAX": (25, 2, 9),
    "PAD": (34, 2, 0),
    "MEAN": (40, 2, 27),
    "ARG_MAX": (56, 2, 40),
    "QUANTIZE": (114, 2, 0),
}
FUSED = {"linear": 0, "relu": 1, "relu6": 3}
_SAME, _VALID = 0, 1
_SCHEMA_VERSION = 3


@dataclass
class Graph:
    """Everything that a file holds, in the order in which it was added; tensors are known by their numbers."""

    tensors: list[Table] = field(default_factory=list)
    operators: list[Table] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    buffers: list[Table] = field(default_factory=lambda: [Table({})])

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        scales: Table | None = None,
        value: Array | None = None,
        any_batch: bool = False,
    ) -> int:
        """Add a tensor: a constant if it has a `value`; with `any_batch` its first axis may have any length."""
        buffer = 0
        if value is not None:
            stored = np.ascontiguousarray(value, np.dtype(dtype).newbyteorder("<"))
            buffer = self.buffer(stored.tobytes())
        slots = {0: integers(shape), 1: Scalar("<b", TYPES[dtype]), 2: Scalar("<I", buffer), 3: name, 4: scales}
        if any_batch:
            slots[7] = integers([-1, *shape[1:]])
        self.tensors.append(Table(slots))
        return len(self.tensors) - 1

    def buffer(self, data: bytes) -> int:
        """Add bytes."""
        self.buffers.append(Table({0: np.frombuffer(data, np.uint8)}))
        return len(self.buffers) - 1

    def constant(self, name: str, value: Any) -> int:
        """Add an argument of an operator, of 32-bit integers."""
        array = np.asarray(value, np.int32)
        return self.tensor(name, array.shape, "int32", None, array)

    def operator(self, kind: str, inputs: Sequence[int], output: int, options: Mapping[int, Any] | None = None) -> int:
        """Add an operator and return its output."""
        if kind not in self.codes:
            self.codes.append(kind)
        slots = {0: Scalar("<I", self.codes.index(kind)), 1: integers(inputs), 2: integers([output])}
        if options is not None:
            slots |= {3: Scalar("<B", _OPERATORS[kind][2]), 4: Table(options)}
        self.operators.append(Table(slots))
        return output

    def file(self, inputs: Sequence[int], outputs: Sequence[int], metadata: Mapping[str, bytes] | None = None) -> bytes:
        """The bytes of a file with this graph and named entries of metadata."""
        entries = [Table({0: name, 1: Scalar("<I", self.buffer(data))}) for name, data in (metadata or {}).items()]
        graph = Table({0: self.tensors, 1: integers(inputs), 2: integers(outputs), 3: self.operators, 4: "main"})
        codes = [_code(kind) for kind in self.codes]
        slots = {0: Scalar("<I", _SCHEMA_VERSION), 1: codes, 2: [graph], 3: "npmnv2", 4: self.buffers}
        return flatbuffer(Table({**slots, 6: entries or None}), b"TFL3")


def _code(kind: str) -> Table:
    number, version, _ = _OPERATORS[kind]
    return Table({0: Scalar("<b", min(number, 127)), 2: integer(version), 3: integer(number)})


def integer(value: int) -> Scalar:
    """A 32-bit integer in a table."""
    return Scalar("<i", value)


def integers(values: Sequence[int]) -> Array:
    """A vector of 32-bit integers."""
    return np.array(values, np.int32)


# --- kernels, padding and options of the network's layers -------------------------------------------------------------


def stored_kernel(layer: Conv | Depthwise | Dense, kernel: Array) -> Array:
    """A canonical kernel as TFLite stores it: (out, height, width, in), depthwise (1, height, width, channels)."""
    if isinstance(layer, Depthwise):
        return np.ascontiguousarray(kernel[None, ..., 0])
    return np.ascontiguousarray(kernel.T[:, None, None] if isinstance(layer, Dense) else kernel.transpose(3, 0, 1, 2))


def explicit_padding(layer: Conv | Depthwise, shape: Shape) -> tuple[list[tuple[int, int]], Shape] | None:
    """Pads of the four axes and the padded shape; None where TensorFlow's SAME pads alike."""
    rows, columns = layer.geometry(*shape[:2]).padding
    if (rows, columns) == tuple(same_padding(size, layer.kernel, layer.stride, layer.dilation) for size in shape[:2]):
        return None
    padded = (shape[0] + sum(rows), shape[1] + sum(columns), shape[2])
    expected = layer.output_shape(shape)[0]
    assert output_size(padded[0], layer.kernel, layer.stride, layer.dilation, (0, 0)) == expected
    return [(0, 0), rows, columns, (0, 0)], padded


def convolution(layer: Conv | Depthwise | Dense, activation: str, is_padded: bool) -> tuple[str, dict[int, Any]]:
    """The operator of a layer with weights, and its options."""
    padding, stride = Scalar("<b", _VALID if is_padded else _SAME), integer(getattr(layer, "stride", 1))
    fused, dilation = Scalar("<b", FUSED[activation]), integer(getattr(layer, "dilation", 1))
    options = {0: padding, 1: stride, 2: stride}
    if isinstance(layer, Depthwise):
        return "DEPTHWISE_CONV_2D", {**options, 3: integer(1), 4: fused, 5: dilation, 6: dilation}
    return "CONV_2D", {**options, 3: fused, 4: dilation, 5: dilation}


def pool(height: int, width: int, stride: int) -> dict[int, Any]:
    """Options of a pool without padding."""
    sizes = {1: integer(stride), 2: integer(stride), 3: integer(width), 4: integer(height)}
    return {0: Scalar("<b", _VALID), **sizes, 5: Scalar("<b", 0)}


def resize(variant: Variant) -> dict[int, Any]:
    """Options of a bilinear resize."""
    aligned, half = (Scalar("<?", variant == v) for v in ("tf1_align_corners", "half_pixel"))
    return {2: aligned, 3: half}
