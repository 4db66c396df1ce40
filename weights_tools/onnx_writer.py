"""Networks of real numbers as ONNX files: one operator for every part of the plan, batch norms folded.

ONNX orders images as (batch, channels, height, width). The height and width are fixed, the number of images is not.
Schema: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3, operators: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from npmnv2.files import write_atomically
from npmnv2.network.layers import (
    Add,
    AveragePool,
    Concat,
    ConcatRows,
    Conv,
    Dense,
    Depthwise,
    GlobalAveragePool,
    ResizeLike,
    Shape,
)
from npmnv2.network.plan import IMAGE, Part
from npmnv2.weights.checkpoint import Checkpoint

from .graphs import Network, entry_of, network_of, processor_of
from .metadata import to_json
from .protobuf_writer import message

_FORMAT = "ONNX"
# The first version whose Resize takes the sizes of some axes only, and so any batch; and the file format of its time.
_OPERATOR_SET, _IR_VERSION = 18, 8
_TYPES = {"float32": 1, "int64": 7}
# Fields of AttributeProto and their numbers in its enum of types.
_FLOAT, _INT, _TEXT, _INTS = (2, 1), (3, 2), (4, 3), (8, 7)
# Operator and attributes of each activation; what is not an attribute in ONNX, the limits of Clip, is an input.
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any], tuple[float, ...]]] = {
    "relu": ("Relu", {}, ()),
    "relu6": ("Clip", {}, (0, 6)),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}, ()),
    "hardswish": ("HardSwish", {}, ()),
    "mish": ("Mish", {}, ()),
    "sigmoid": ("Sigmoid", {}, ()),
    "tanh": ("Tanh", {}, ()),
}
_COORDINATES = {"tf1": "asymmetric", "tf1_align_corners": "align_corners", "half_pixel": "half_pixel"}


def write(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a network as an ONNX file. Atomic.

    Raises
    ------
    WeightsError
        If the network is quantized or has a layer or an activation that is not written.
    OSError
    """
    data = onnx_bytes(checkpoint)
    with write_atomically(Path(path)) as temporary:
        temporary.write_bytes(data)


def onnx_bytes(checkpoint: Checkpoint) -> bytes:
    """The bytes of `write`'s file.

    It takes the prepared image [shape=(batch, channels, height, width)] and returns what the plan ends in. Every value
    has the name of its part.
    """
    network = network_of(checkpoint)
    writer = _Writer(network)
    for part in network.parts:
        entry_of(_LAYERS, type(part.layer), part, _FORMAT)(writer, part)
    infos = {name: _value_info(name, network.shapes[name]) for name in (IMAGE, *(part.name for part in network.parts))}
    ends = (IMAGE, *network.outputs)
    graph = {
        1: writer.nodes,
        2: "MobileNetV2",
        5: writer.constants,
        11: [infos[IMAGE]],
        12: [infos[name] for name in network.outputs],
        13: [info for name, info in infos.items() if name not in ends],
    }
    model = {1: _IR_VERSION, 2: "npmnv2", 7: graph, 8: {1: "", 2: _OPERATOR_SET}, 14: _properties(checkpoint)}
    return message(model)


def _properties(checkpoint: Checkpoint) -> list[dict[int, Any]]:
    """The file's metadata: labels and preprocessing for everybody, and all that npmnv2 knows."""
    labels = None if checkpoint.labels is None else json.dumps(checkpoint.labels, ensure_ascii=False)
    preprocessing = json.dumps(processor_of(checkpoint).to_dict())
    found = {"labels": labels, "preprocessing": preprocessing, "npmnv2": to_json(checkpoint)}
    return [{1: key, 2: value} for key, value in found.items() if value is not None]


def _value_info(name: str, shape: Shape) -> dict[int, Any]:
    stored = (shape[-1], *shape[:-1]) if len(shape) == 3 else shape
    sizes = [{2: "batch"}, *({1: size} for size in stored)]
    return {1: name, 2: {1: {1: _TYPES["float32"], 2: {1: sizes}}}}


def _attribute(name: str, value: Any) -> dict[int, Any]:
    kinds = {float: _FLOAT, int: _INT, str: _TEXT}
    number, kind = kinds.get(type(value), _INTS)
    return {1: name, number: value, 20: kind}


@dataclass
class _Writer:
    """Operators and constants so far."""

    network: Network
    nodes: list[dict[int, Any]] = field(default_factory=list)
    constants: list[dict[int, Any]] = field(default_factory=list)

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operator and return its output."""
        described = [_attribute(name, value) for name, value in attributes.items()]
        self.nodes.append({1: list(inputs), 2: output, 3: f"{output}/{kind}", 4: kind, 5: described})
        return output

    def constant(self, name: str, value: Any, dtype: str = "float32") -> str:
        array = np.ascontiguousarray(value, np.dtype(dtype).newbyteorder("<"))
        shape = list(np.shape(value))
        self.constants.append({1: shape, 2: _TYPES[dtype], 8: name, 9: array.tobytes()})
        return name

    def parameters(self, part: Part, *axes: int) -> list[str]:
        """Add kernel, with its axes in this order (a matrix is a kernel of one pixel), and bias."""
        kernel, bias = self.network.kernel_and_bias(part)
        kernel = kernel.reshape((1,) * (len(axes) - kernel.ndim) + kernel.shape)
        arrays = {"kernel": kernel.transpose(axes), "bias": bias}
        return [self.constant(f"{part.name}/{key}", array) for key, array in arrays.items()]

    # --- one method a layer -------------------------------------------------------------------------------------------

    def convolution(self, part: Part) -> None:
        layer, shape = part.layer, self.network.shapes[part.inputs[0]]
        assert isinstance(layer, (Conv, Depthwise))
        is_depthwise = isinstance(layer, Depthwise)
        (top, bottom), (left, right) = layer.geometry(*shape[:2]).padding
        linear = part.name if layer.activation == "linear" else f"{part.name}/linear"
        self.node(
            "Conv",
            [*part.inputs, *self.parameters(part, *((2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1)))],
            linear,
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            dilations=[layer.dilation] * 2,
            pads=[top, left, bottom, right],
            group=shape[-1] if is_depthwise else 1,
        )
        if layer.activation != "linear":
            self.activation(part, layer.activation, linear)

    def activation(self, part: Part, name: Any, linear: str) -> None:
        kind, attributes, arguments = entry_of(_ACTIVATIONS, name, part, _FORMAT)
        limits = [self.constant(f"{part.name}/limit_{i}", np.float32(value)) for i, value in enumerate(arguments)]
        self.node(kind, [linear, *limits], part.name, **attributes)

    def dense(self, part: Part) -> None:
        if len(self.network.shapes[part.inputs[0]]) == 1:
            self.node("Gemm", [*part.inputs, *self.parameters(part, 0, 1)], part.name)
            return
        self.node("Conv", [*part.inputs, *self.parameters(part, 3, 2, 0, 1)], part.name)

    def add(self, part: Part) -> None:
        self.node("Add", part.inputs, part.name)

    def concat(self, part: Part) -> None:
        self.node("Concat", part.inputs, part.name, axis=1)

    def concat_rows(self, part: Part) -> None:
        assert isinstance(part.layer, ConcatRows)
        # 0 keeps the length of the batch, -1 is what follows.
        shape = self.constant(f"{part.name}/shape", [0, -1, part.layer.columns], "int64")
        rows = []
        for number, name in enumerate(part.inputs):
            pixels = self.node("Transpose", [name], f"{part.name}/pixels_{number}", perm=[0, 2, 3, 1])
            rows.append(self.node("Reshape", [pixels, shape], f"{part.name}/rows_{number}"))
        self.node("Concat", rows, part.name, axis=1)

    def global_pool(self, part: Part) -> None:
        assert isinstance(part.layer, GlobalAveragePool)
        if part.layer.keep_dims:
            self.node("GlobalAveragePool", part.inputs, part.name)
        else:
            self.node("Flatten", [self.node("GlobalAveragePool", part.inputs, f"{part.name}/map")], part.name)

    def average_pool(self, part: Part) -> None:
        layer = part.layer
        assert isinstance(layer, AveragePool)
        self.node("AveragePool", part.inputs, part.name, kernel_shape=[layer.window] * 2, strides=[layer.stride] * 2)

    def resize_like(self, part: Part) -> None:
        layer = part.layer
        assert isinstance(layer, ResizeLike)
        sizes = self.constant(f"{part.name}/size", self.network.shapes[part.name][:2], "int64")
        mode = {"mode": "linear", "coordinate_transformation_mode": _COORDINATES[layer.variant]}
        self.node("Resize", [part.inputs[0], "", "", sizes], part.name, axes=[2, 3], **mode)


_LAYERS: Mapping[type[Any], Callable[[_Writer, Part], None]] = {
    Conv: _Writer.convolution,
    Depthwise: _Writer.convolution,
    Dense: _Writer.dense,
    Add: _Writer.add,
    Concat: _Writer.concat,
    ConcatRows: _Writer.concat_rows,
    GlobalAveragePool: _Writer.global_pool,
    AveragePool: _Writer.average_pool,
    ResizeLike: _Writer.resize_like,
}
