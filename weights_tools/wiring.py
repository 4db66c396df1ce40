"""What a graph file computes, operation by operation, and the file with its inner values as outputs.

For runtimes that return a file's outputs only: an inner value is seen by making it one. Nothing else changes.
TFLite: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
ONNX: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.weights.bounds import Budget, read_bytes

from .graph_def import GraphDef
from .protobuf import Message
from .protobuf_writer import message
from .tflite import Model

# Kinds of operations. FOLLOW changes the numbers of what it takes (batch norm, bias, activation); PASS does not.
CONV, DEPTHWISE, DENSE, ADD, CONCAT, POOL, RESIZE, FOLLOW, PASS, OTHER = (
    "conv", "depthwise", "dense", "add", "concat", "pool", "resize", "follow", "pass", "other"
)  # fmt: skip


class Wire(NamedTuple):
    """One operation.

    Attributes
    ----------
    name : str
        What the file calls the operation, or its result.
    kind : str
        One of the kinds above.
    sources : tuple of str
        Keys of the computed values that it takes; constants are left out.
    key : str
        Key of its result: a name, in TFLite the tensor's number.
    scale : float or None
        Step of a quantized result.
    zero_point : int
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    key: str
    scale: float | None = None
    zero_point: int = 0


class Wiring(NamedTuple):
    """All operations that depend on the input, in the file's order, and the key of the input."""

    image: str
    wires: tuple[Wire, ...]


def _wiring(path: Path, images: Sequence[str], wires: Iterable[Wire]) -> Wiring:
    """Leave out what does not depend on the image."""
    if not images:
        raise WeightsError(f"{path}: its graph has no input")
    computed, kept = {images[0]}, []
    for wire in wires:
        sources = tuple(key for key in wire.sources if key in computed)
        if sources:
            computed.add(wire.key)
            kept.append(wire._replace(sources=sources, kind=_resolved(wire.kind, sources)))
    return Wiring(images[0], tuple(kept))


def _resolved(kind: str, sources: tuple[str, ...]) -> str:
    """An addition of a constant is a bias, not a residual."""
    return FOLLOW if kind == ADD and len(sources) < 2 else kind


# --- TFLite -----------------------------------------------------------------------------------------------------------

_TFLITE_KINDS = {
    "CONV_2D": CONV, "DEPTHWISE_CONV_2D": DEPTHWISE, "FULLY_CONNECTED": DENSE, "ADD": ADD, "CONCATENATION": CONCAT,
    "AVERAGE_POOL_2D": POOL, "MEAN": POOL, "RESIZE_BILINEAR": RESIZE,
    "RELU": FOLLOW, "RELU6": FOLLOW, "MUL": FOLLOW, "SUB": FOLLOW, "DIV": FOLLOW, "BATCH_TO_SPACE_ND": FOLLOW,
    "RESHAPE": PASS, "SQUEEZE": PASS, "PAD": PASS, "QUANTIZE": PASS, "DEQUANTIZE": PASS, "SPACE_TO_BATCH_ND": PASS,
}  # fmt: skip
_OUTPUTS_SLOT = 2


def tflite_wiring(path: str | Path) -> Wiring:
    """The operations of a TFLite file.

    Raises
    ------
    FileNotFoundError
    WeightsError
    """
    model = Model.open(Path(path))
    wires = []
    for operator in model.operators:
        for number in operator.outputs[:1]:
            scales = model.scales(number)
            single = scales is not None and scales.scale.size == 1
            wire = Wire(
                model.name(number),
                _TFLITE_KINDS.get(operator.kind, OTHER),
                tuple(map(str, operator.inputs)),
                str(number),
                float(scales.scale[0]) if scales is not None and single else None,
                int(scales.zero_point[0]) if scales is not None and single else 0,
            )
            wires.append(wire)
    return _wiring(model.path, [str(number) for number in model.inputs], wires)


def tflite_with_outputs(path: str | Path, keys: Sequence[str]) -> bytes:
    """A TFLite file whose outputs are these tensors: a new list of them is appended, and the reference turned there."""
    model = Model.open(Path(path))
    data = bytearray(model.root.buffer.data)
    place = model.graph.field(_OUTPUTS_SLOT)
    if not place:
        raise WeightsError(f"{path}: its graph has no outputs")
    data += bytes(-len(data) % 4)
    struct.pack_into("<I", data, place, len(data) - place)
    data += struct.pack("<I", len(keys)) + np.array([int(key) for key in keys], "<i4").tobytes()
    return bytes(data)


# --- ONNX -------------------------------------------------------------------------------------------------------------

_ONNX_KINDS = {
    "Gemm": DENSE, "MatMul": DENSE, "Add": ADD, "Sum": ADD, "Concat": CONCAT,
    "GlobalAveragePool": POOL, "AveragePool": POOL, "ReduceMean": POOL, "Resize": RESIZE, "Upsample": RESIZE,
    **dict.fromkeys(("BatchNormalization", "Clip", "Relu", "Mul", "Sub", "Div", "Min", "Max", "HardSwish"), FOLLOW),
    **dict.fromkeys(("HardSigmoid", "Sigmoid", "LeakyRelu", "Tanh", "Erf", "Gelu", "Elu"), FOLLOW),
    **dict.fromkeys(("Transpose", "Reshape", "Flatten", "Squeeze", "Pad", "Identity", "Dropout", "Cast"), PASS),
}  # fmt: skip
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 7, 1, 5, 11, 12


def onnx_wiring(path: str | Path) -> Wiring:
    """The operations of an ONNX file.

    Raises
    ------
    FileNotFoundError
    WeightsError
    """
    path = Path(path)
    data = read_bytes(path)
    graph = Message(memoryview(data), Budget(path, len(data))).message(_MODEL_GRAPH)
    constants = {tensor.text(8) for tensor in graph.messages(_GRAPH_INITIALIZER)}
    images = [name for value in graph.messages(_GRAPH_INPUT) if (name := value.text(1)) not in constants]
    return _wiring(path, images, map(_onnx_wire, graph.messages(_GRAPH_NODE)))


def _onnx_wire(node: Message) -> Wire:
    operation, outputs = node.text(4), node.texts(2)
    kind = _ONNX_KINDS.get(operation, OTHER)
    if operation == "Conv":
        groups = [attribute.integer(3) for attribute in node.messages(5) if attribute.text(1) == "group"]
        kind = DEPTHWISE if groups and groups[0] > 1 else CONV
    key = outputs[0] if outputs else ""
    return Wire(key, kind, tuple(node.texts(1)), key)


def onnx_with_outputs(path: str | Path, keys: Sequence[str]) -> bytes:
    """An ONNX file with these values as further outputs.

    Parsers of protocol buffers merge a message that occurs twice, so a second graph that holds nothing but outputs is
    appended to the file.
    """
    data = read_bytes(Path(path))
    return bytes(data) + message({_MODEL_GRAPH: {_GRAPH_OUTPUT: [{1: key} for key in keys]}})


# --- frozen graphs ----------------------------------------------------------------------------------------------------

_TENSORFLOW_KINDS = {
    "Conv2D": CONV, "DepthwiseConv2dNative": DEPTHWISE, "MatMul": DENSE, "Add": ADD, "AddV2": ADD, "ConcatV2": CONCAT,
    "AvgPool": POOL, "Mean": POOL, "ResizeBilinear": RESIZE,
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "BiasAdd", "Relu6", "Relu"), FOLLOW),
    **dict.fromkeys(("Mul", "Sub", "RealDiv", "BatchToSpaceND", "FakeQuantWithMinMaxVars"), FOLLOW),
    **dict.fromkeys(("Identity", "Squeeze", "Reshape", "Pad", "SpaceToBatchND", "StopGradient"), PASS),
}  # fmt: skip


def frozen_graph_wiring(path: str | Path) -> Wiring:
    """The operations of a frozen TensorFlow graph, by their names.

    Raises
    ------
    FileNotFoundError
    WeightsError
    """
    graph = GraphDef(Path(path), data=read_bytes(Path(path)))
    images = [operation.name for operation in graph.operations.values() if operation.kind == "Placeholder"]
    wires = (
        Wire(operation.name, _TENSORFLOW_KINDS.get(operation.kind, OTHER), operation.inputs, operation.name)
        for operation in graph.operations.values()
    )
    return _wiring(graph.path, images, wires)
