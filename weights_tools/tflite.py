"""TFLite models: float, with quantized weights, and (by `tflite_integers`) wholly quantized.

A TFLite file holds a graph, not variables: batch norms are folded, names are whatever the converter left, and
only the order and the wiring of the operators say which layer is which. So the graph is walked from the image
on, and each convolution gets its name from the layer that feeds it (`_successor`). Schema:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npmnv2.errors import WeightsError
from npmnv2.labels import BACKGROUND
from npmnv2.network.architecture import backbone
from npmnv2.network.layers import Conv, Depthwise
from npmnv2.network.ssd import detector
from npmnv2.weights.assemble import Content, assemble, class_count
from npmnv2.weights.bounds import Array, Budget, array_from_bytes, checked_shape, damaged, read_bytes
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.names import BACKBONE, is_depthwise

from .flatbuffer import Buffer, Table
from .npz import ARCHIVE_ERRORS, COMPRESSIONS

if TYPE_CHECKING:
    from .tflite_ssd import Head

_DTYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
}
_INTEGER_WEIGHTS = {"uint8", "int8", "int32"}
_OPERATORS = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE",
    9: "FULLY_CONNECTED", 14: "LOGISTIC", 18: "MUL", 19: "RELU", 21: "RELU6", 22: "RESHAPE", 23: "RESIZE_BILINEAR",
    25: "SOFTMAX", 34: "PAD", 37: "BATCH_TO_SPACE_ND", 38: "SPACE_TO_BATCH_ND", 40: "MEAN", 41: "SUB",
    42: "DIV", 43: "SQUEEZE", 53: "CAST", 56: "ARG_MAX", 114: "QUANTIZE",
}  # fmt: skip
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_POOLS = ("AVERAGE_POOL_2D", "MEAN")
_ARITHMETIC = ("ADD", "SUB", "MUL", "DIV")
# What may stand between two convolutions without changing which layer comes next.
_TRANSPARENT = (
    "RELU6", "RELU", "RESHAPE", "SQUEEZE", "PAD", "RESIZE_BILINEAR", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND",
    "QUANTIZE",
)  # fmt: skip
_VALID_PADDING = 1
_LINEAR, _RELU, _RELU6 = 0, 1, 3
_SIX = 6.03  # half a step of 8 bits above the end of a ReLU6
_ACTIVATIONS = {_RELU: "relu", _RELU6: "relu6"}

# Slots of the schema's tables, in the order of its fields.
_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS = 1, 2, 4
_SUBGRAPH_TENSORS, _SUBGRAPH_INPUTS, _SUBGRAPH_OUTPUTS, _SUBGRAPH_OPERATORS = 0, 1, 2, 3
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME, _TENSOR_QUANTIZATION, _TENSOR_SPARSITY = 0, 1, 2, 3, 4, 6
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO_POINT, _QUANTIZATION_AXIS = 2, 3, 6
_OPERATOR_CODE, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS, _OPERATOR_OPTIONS, _OPERATOR_CUSTOM_OPTIONS = 0, 1, 2, 4, 5
_CUSTOM = 32


class Scales(NamedTuple):
    """What the integers of a tensor stand for: ``scale · (q − zero point)``, one pair or one per entry of an axis."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int


class Operator(NamedTuple):
    """One step of the graph: kind, numbers of input and output tensors (−1 for an absent one), options.

    A custom operator's kind is its own name, and its options are bytes that only it understands.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None
    custom_options: memoryview = memoryview(b"")

    def option(self, slot: int, kind: str = "int32", default: int = 0) -> int:
        """A number of the options table."""
        return self.options.scalar(slot, kind, default) if self.options else default

    @property
    def stride(self) -> int:
        """Stride of a convolution, 0 if it differs between the axes."""
        return self.option(2) if self.option(1) == self.option(2) else 0

    @property
    def dilation(self) -> int:
        """Vertical dilation of a convolution."""
        return self.option(6 if self.kind == "DEPTHWISE_CONV_2D" else 5, default=1)

    @property
    def activation(self) -> int:
        """Fused activation function of a convolution (the schema's ActivationFunctionType)."""
        slots = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "FULLY_CONNECTED": 0}
        return self.option(slots[self.kind], "int8")


@dataclass(frozen=True)
class Model:
    """The main subgraph of a TFLite file."""

    path: Path
    root: Table

    @classmethod
    def open(cls, path: Path) -> Model:
        """Read a file, without looking into it yet."""
        data = read_bytes(path)
        if data[4:8] != b"TFL3":
            raise damaged(path, "no TFLite identifier 'TFL3'", 4)
        return cls(path, Buffer(data, Budget(path, len(data))).root())

    @property
    def budget(self) -> Budget:
        """What reading the file may cost."""
        return self.root.buffer.budget

    @cached_property
    def graph(self) -> Table:
        """The first subgraph, the only one that convolutional models have."""
        subgraphs = self.root.tables(_MODEL_SUBGRAPHS)
        if not subgraphs:
            raise damaged(self.path, "no subgraph")
        return subgraphs[0]

    @cached_property
    def tensors(self) -> list[Table]:
        """Descriptions of all tensors."""
        return self.graph.tables(_SUBGRAPH_TENSORS)

    @cached_property
    def buffers(self) -> list[Table]:
        """The places where constants are stored."""
        return self.root.tables(_MODEL_BUFFERS)

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """Numbers of the graph's input tensors."""
        return tuple(int(i) for i in self.graph.array(_SUBGRAPH_INPUTS, "<i4"))

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """Numbers of the graph's output tensors."""
        return tuple(int(i) for i in self.graph.array(_SUBGRAPH_OUTPUTS, "<i4"))

    @cached_property
    def operators(self) -> list[Operator]:
        """All operators in the order in which they run."""
        kinds = [_operator_kind(code) for code in self.root.tables(_MODEL_OPERATOR_CODES)]
        return [self._operator(table, kinds) for table in self.graph.tables(_SUBGRAPH_OPERATORS)]

    def _operator(self, table: Table, kinds: list[str]) -> Operator:
        code = table.scalar(_OPERATOR_CODE, "uint32", 0)
        if code >= len(kinds):
            raise damaged(self.path, f"operator code {code} of {len(kinds)}", table.position)
        inputs, outputs = (
            tuple(int(i) for i in table.array(slot, "<i4", limit=1000))
            for slot in (_OPERATOR_INPUTS, _OPERATOR_OUTPUTS)
        )
        options = table.table(_OPERATOR_OPTIONS), table.bytes(_OPERATOR_CUSTOM_OPTIONS)
        return Operator(kinds[code], inputs, outputs, *options)

    def tensor(self, number: int) -> Table:
        """The description of one tensor."""
        if not 0 <= number < len(self.tensors):
            raise damaged(self.path, f"tensor number {number} of {len(self.tensors)}")
        return self.tensors[number]

    def name(self, number: int) -> str:
        """A tensor's name."""
        return self.tensor(number).text(_TENSOR_NAME)

    def dtype(self, number: int) -> str:
        """A tensor's element type, by NumPy's name."""
        code = self.tensor(number).scalar(_TENSOR_TYPE, "int8", 0)
        return _DTYPES.get(code, "int4" if code in (17, 19, 20) else f"type {code}")

    def shape(self, number: int) -> tuple[int, ...]:
        """A tensor's shape."""
        shape = tuple(int(n) for n in self.tensor(number).array(_TENSOR_SHAPE, "<i4"))
        return checked_shape(self.path, shape, f"tensor {self.name(number)!r}")

    def scales(self, number: int) -> Scales | None:
        """A tensor's quantization, None for real numbers."""
        table = self.tensor(number).table(_TENSOR_QUANTIZATION)
        scale = table.array(_QUANTIZATION_SCALE, "<f4") if table else None
        if table is None or scale is None or not scale.size:
            return None
        zero_point = table.array(_QUANTIZATION_ZERO_POINT, "<i8")
        zero_point = zero_point if zero_point.size else np.zeros(scale.size, np.int64)
        if zero_point.size != scale.size:
            raise damaged(
                self.path, f"{scale.size} scales and {zero_point.size} zero points", f"tensor {self.name(number)!r}"
            )
        return Scales(
            scale.astype(np.float32), zero_point.astype(np.int64), table.scalar(_QUANTIZATION_AXIS, "int32", 0)
        )

    def buffer(self, number: int) -> memoryview:
        """The bytes of one buffer."""
        if number >= len(self.buffers):
            raise damaged(self.path, f"buffer {number} of {len(self.buffers)}")
        return self.buffers[number].bytes(0)

    def constant(self, number: int) -> Array | None:
        """The value of a constant tensor, None for one that is computed."""
        if self.tensor(number).table(_TENSOR_SPARSITY) is not None:
            raise WeightsError(f"{self.path}: tensor {self.name(number)!r} is sparse, which is not read")
        data = self.buffer(self.tensor(number).scalar(_TENSOR_BUFFER, "uint32", 0))
        if not len(data):
            return None
        dtype = self.dtype(number)
        if dtype not in _DTYPES.values():
            raise WeightsError(f"{self.path}: tensor {self.name(number)!r} has {dtype}, which is not read")
        little_endian = np.dtype(dtype).newbyteorder("<")
        return array_from_bytes(self.path, data, little_endian, self.shape(number), f"tensor {self.name(number)!r}")


def _operator_kind(code: Table) -> str:
    # Codes above 127 do not fit into the old one-byte field, which then holds 127.
    number = max(code.scalar(0, "int8", 0), code.scalar(3, "int32", 0))
    if number == _CUSTOM:
        return code.text(1) or "CUSTOM"
    return _OPERATORS.get(number, f"operator {number}")


# --- which convolution is which layer -----------------------------------------------------------------------


class Value(NamedTuple):
    """What is known of a computed tensor: the layers it comes from, and what was done since."""

    layers: tuple[str, ...]
    pooled: bool = False
    strange: str = ""  # the first operator on the way that MobileNetV2 does not have
    dilation: int = 1
    pads: tuple[int, int] = (0, 0)
    scale: float = 1.0  # what the graph itself does to the image before the first convolution
    offset: float = 0.0


@dataclass
class Walk:
    """The walk along a graph, and what it has found so far.

    Attributes
    ----------
    weights : dict
        Canonical name → array.
    strides, dilations, activations, operators : dict
        By layer name.
    residuals : set of str
        Layers whose result is added to what came before.
    symmetric : bool
        Whether some convolution of stride 2 was padded alike on both sides although TensorFlow would not.
    """

    model: Model
    weights: dict[str, Array] = field(default_factory=dict)
    strides: dict[str, int] = field(default_factory=dict)
    dilations: dict[str, int] = field(default_factory=dict)
    activations: dict[str, int] = field(default_factory=dict)
    operators: dict[str, Operator] = field(default_factory=dict)
    residuals: set[str] = field(default_factory=set)
    symmetric: bool = False
    values: dict[int, Value] = field(default_factory=dict)

    def run(self) -> None:
        """Walk along all operators."""
        for number in self.model.inputs:
            self.values[number] = Value(("image",))
        for operator in self.model.operators:
            value = self._convolution(operator) if operator.kind in _CONVOLUTIONS else self._other(operator)
            if value is not None:
                self.values.update(dict.fromkeys(operator.outputs, value))

    def _sources(self, operator: Operator) -> list[Value]:
        return [self.values[number] for number in operator.inputs if number in self.values]

    def _other(self, operator: Operator) -> Value | None:
        """Result of an operator other than a convolution; None if it does not depend on the image."""
        sources = self._sources(operator)
        if not sources:
            return None
        first = sources[0]
        if operator.kind == "ADD" and len(sources) == 2 and operator.option(0, "int8") == _LINEAR:
            newest = max(sources, key=lambda value: self._age(value.layers[-1]))
            self.residuals.add(newest.layers[-1])
            return newest
        if operator.kind == "CONCATENATION":
            return Value(tuple(dict.fromkeys(layer for value in sources for layer in value.layers)))
        if operator.kind in _POOLS:
            return first._replace(pooled=True)
        if operator.kind in ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"):
            return first._replace(dilation=self._block_shape(operator))
        if operator.kind == "PAD":
            return first._replace(pads=self._pads(operator))
        if operator.kind in _ARITHMETIC and first.layers == ("image",):
            return self._scaled(operator, first)
        if operator.kind in ("RELU", "RELU6") and self.activations.get(first.layers[0]) == _LINEAR:
            self.activations[first.layers[0]] = _RELU if operator.kind == "RELU" else _RELU6
        if operator.kind in _TRANSPARENT:
            return first
        return first._replace(strange=first.strange or operator.kind)

    def _scaled(self, operator: Operator, value: Value) -> Value:
        """The image after an arithmetic operator with one constant number."""
        number = next((n for n in operator.inputs if n not in self.values), None)
        constant = None if number is None else self.float_constant(number)
        swapped = operator.kind in ("SUB", "DIV") and operator.inputs[0] == number
        if constant is None or constant.size != 1 or swapped or not constant.all():
            return value._replace(strange=operator.kind)
        by = float(constant.flat[0])
        if operator.kind in ("MUL", "DIV"):
            by = by if operator.kind == "MUL" else 1 / by
            return value._replace(scale=value.scale * by, offset=value.offset * by)
        return value._replace(offset=value.offset + (by if operator.kind == "ADD" else -by))

    def _age(self, layer: str) -> int:
        return list(self.strides).index(layer) if layer in self.strides else -1

    def _argument(self, operator: Operator, position: int) -> Array:
        value = self.model.constant(operator.inputs[position]) if len(operator.inputs) > position else None
        if value is None:
            raise WeightsError(f"{self.model.path}: {operator.kind} takes an argument that is not constant")
        return value

    def _block_shape(self, operator: Operator) -> int:
        return int(self._argument(operator, 1).flat[0]) if operator.kind == "SPACE_TO_BATCH_ND" else 1

    def _pads(self, operator: Operator) -> tuple[int, int]:
        pads = self._argument(operator, 1)
        if pads.shape != (4, 2):
            raise damaged(self.model.path, f"padding of shape {pads.shape}", "operator PAD")
        return int(pads[1, 0]), int(pads[1, 1])

    def _convolution(self, operator: Operator) -> Value:
        kernel = self._kernel(operator)
        source = self.values.get(operator.inputs[0])
        if source is None:
            raise WeightsError(f"{self.model.path}: a {operator.kind} takes something that is not made from the image")
        layer = self._name(operator, source)
        if source.strange:
            raise WeightsError(f"{self.model.path}: {source.strange} before layer {layer} is not part of MobileNetV2")
        if f"{layer}/kernel" in self.weights:
            raise WeightsError(f"{self.model.path}: two convolutions look like layer {layer}")
        self.weights[f"{layer}/kernel"] = _canonical_kernel(operator, layer, kernel)
        self.weights[f"{layer}/bias"] = self._bias(operator, self.weights[f"{layer}/kernel"])
        self.strides[layer] = operator.stride if operator.kind != "FULLY_CONNECTED" else 1
        self.dilations[layer] = max(source.dilation, operator.dilation) if is_depthwise(layer) else 1
        self.activations[layer] = operator.activation or self._implied_activation(layer, operator)
        self.operators[layer] = operator
        self._note_padding(layer, operator, source)
        return Value((layer,))

    def _kernel(self, operator: Operator) -> Array:
        if len(operator.inputs) < 2:
            raise damaged(self.model.path, f"{operator.kind} without weights")
        kernel = self.float_constant(operator.inputs[1])
        if kernel is None:
            raise WeightsError(f"{self.model.path}: the weights of {operator.kind} are not constant")
        ranks = {"FULLY_CONNECTED": 2}
        is_one = operator.kind != "DEPTHWISE_CONV_2D" or kernel.shape[:1] == (1,)
        if kernel.ndim != ranks.get(operator.kind, 4) or not is_one:
            raise damaged(
                self.model.path, f"kernel of shape {kernel.shape}", f"{self.model.name(operator.inputs[1])!r}"
            )
        return kernel

    def float_constant(self, number: int) -> Array | None:
        """A constant as float32, also one that is stored as float16 behind a DEQUANTIZE."""
        number = self._dequantized.get(number, number)
        dtype = self.model.dtype(number)
        value = self.model.constant(number)
        if value is None:
            return None
        # Many tensors may share their bytes.
        self.model.budget.take(4 * value.size)
        scales = self.model.scales(number) if dtype in _INTEGER_WEIGHTS else None
        return value.astype(np.float32) if scales is None else self._real(number, value, scales)

    def _real(self, number: int, value: Array, scales: Scales) -> Array:
        """The real numbers that quantized weights stand for."""
        scale, zero_point, axis = scales
        if scale.size > 1:
            if not 0 <= axis < value.ndim or value.shape[axis] != scale.size:
                raise WeightsError(
                    f"{self.model.path}: tensor {self.model.name(number)!r} of shape {value.shape} has {scale.size} "
                    f"scales along axis {axis}"
                )
            along = tuple(-1 if at == axis else 1 for at in range(value.ndim))
            scale, zero_point = scale.reshape(along), zero_point.reshape(along)
        with np.errstate(over="ignore", invalid="ignore"):
            return ((value.astype(np.int64) - zero_point) * scale.astype(np.float64)).astype(np.float32)

    def _implied_activation(self, layer: str, operator: Operator) -> int:
        """Quantized files often leave an activation to the range of the output: 0 … 6 is a ReLU6."""
        if not operator.outputs:
            raise damaged(self.model.path, f"{operator.kind} without a result", f"layer {layer}")
        scales, dtype = self.model.scales(operator.outputs[0]), self.model.dtype(operator.outputs[0])
        if scales is None or dtype not in ("uint8", "int8") or layer.endswith("project"):
            return _LINEAR
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if int(scales.zero_point[0]) != low:
            return _LINEAR
        return _RELU6 if float(scales.scale[0]) * (high - low) < _SIX else _RELU

    @cached_property
    def _dequantized(self) -> dict[int, int]:
        return {
            op.outputs[0]: op.inputs[0]
            for op in self.model.operators
            if op.kind == "DEQUANTIZE" and op.inputs and op.outputs
        }

    def _bias(self, operator: Operator, kernel: Array) -> Array:
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            channels = kernel.shape[-2] if operator.kind == "DEPTHWISE_CONV_2D" else kernel.shape[-1]
            return np.zeros(channels, np.float32)
        bias = self.float_constant(operator.inputs[2])
        if bias is None:
            raise WeightsError(f"{self.model.path}: the bias of {operator.kind} is not constant")
        return bias.reshape(-1)

    @cached_property
    def head(self) -> Head:
        """The predictors of a detector, and what follows them."""
        from .tflite_ssd import find_head

        return find_head(self.model)

    def _part_of_detector(self, operator: Operator, source: Value) -> str | None:
        if not self.head.names or not operator.outputs:
            return None
        from .tflite_ssd import extra_layer

        return self.head.names.get(operator.outputs[0]) or extra_layer(self.model, operator, source.layers[0])

    def _name(self, operator: Operator, source: Value) -> str:
        layer = self._part_of_detector(operator, source)
        layer = layer or self._atrous_branch(operator, source) or _successor(operator, source, self.segmentation)
        if layer is None:
            raise WeightsError(
                f"{self.model.path}: a {operator.kind} ({self.model.name(operator.inputs[1])!r}) after "
                f"{' and '.join(source.layers)} is not part of MobileNetV2"
            )
        return layer

    def _atrous_branch(self, operator: Operator, source: Value) -> str | None:
        """DeepLab's atrous branches differ in their dilation only; they are numbered in the file's order."""
        if source.layers != ("block_16_project",) or operator.kind != "DEPTHWISE_CONV_2D":
            return None
        free = (f"aspp{i}_depthwise" for i in (1, 2, 3) if f"aspp{i}_depthwise/kernel" not in self.weights)
        return next(free, None)

    @cached_property
    def segmentation(self) -> bool:
        """Whether the file is a DeepLab: only DeepLab resizes a pooled map and concatenates it."""
        return {"CONCATENATION", "RESIZE_BILINEAR"} <= {operator.kind for operator in self.model.operators}

    def _note_padding(self, layer: str, operator: Operator, source: Value) -> None:
        if operator.kind == "FULLY_CONNECTED" or operator.option(0, "int8") != _VALID_PADDING:
            return
        if source.pads == (0, 0) and source.dilation == 1 and self.weights[f"{layer}/kernel"].shape[0] == 3:
            raise WeightsError(f"{self.model.path}: layer {layer} is not padded, a MobileNetV2 pads all of 3×3")
        if operator.stride == 2 and source.pads == (1, 1):
            height = self.model.shape(operator.inputs[0])[1] - 2
            self.symmetric |= height % 2 == 0


def _canonical_kernel(operator: Operator, layer: str, kernel: Array) -> Array:
    """A TFLite kernel in canonical layout: convolutions are stored as (out, height, width, in)."""
    if operator.kind == "DEPTHWISE_CONV_2D":
        return np.ascontiguousarray(kernel[0][..., np.newaxis])
    if operator.kind == "FULLY_CONNECTED":
        return np.ascontiguousarray(kernel.T)
    if layer == "predictions":
        return np.ascontiguousarray(kernel[:, 0, 0].T)
    return np.ascontiguousarray(kernel.transpose(1, 2, 3, 0))


def _successor(operator: Operator, source: Value, segmentation: bool) -> str | None:
    """The layer that this convolution must be, given the layer(s) whose result it takes."""
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    if len(source.layers) > 1:
        return _after_concatenation(source.layers, depthwise)
    before = source.layers[0]
    if before == "block_16_project":
        return _after_last_block(operator, source, segmentation)
    if before == "block_2_depthwise" and operator.activation == _RELU:
        return "decoder_feature_projection0"
    if before.startswith(("expanded_conv_", "block_")):
        return _inside_backbone(before, depthwise)
    if before == "Conv_1" and not (source.pooled or operator.kind == "FULLY_CONNECTED"):
        return None
    return _SUCCESSORS.get((before, depthwise))


_SUCCESSORS = {
    ("image", False): "Conv1",
    ("Conv1", True): "expanded_conv_depthwise",
    ("Conv1", False): "expanded_conv_expand",
    ("Conv_1", False): "predictions",
    **{(f"aspp{i}_depthwise", False): f"aspp{i}_pointwise" for i in (1, 2, 3)},
    ("decoder_conv0_depthwise", False): "decoder_conv0_pointwise",
    ("decoder_conv0_pointwise", True): "decoder_conv1_depthwise",
    ("decoder_conv1_depthwise", False): "decoder_conv1_pointwise",
    ("concat_projection", False): "logits_semantic",
    ("decoder_conv1_pointwise", False): "logits_semantic",
}


def _inside_backbone(before: str, depthwise: bool) -> str | None:
    block, _, part = before.rpartition("_")
    if part == "project":
        index = int(block.removeprefix("block_")) if block != "expanded_conv" else 0
        return None if depthwise else f"block_{index + 1}_expand"
    following, wanted = {"expand": ("depthwise", True), "depthwise": ("project", False)}[part]
    return f"{block}_{following}" if depthwise == wanted else None


def _after_last_block(operator: Operator, source: Value, segmentation: bool) -> str | None:
    if operator.kind != "CONV_2D":
        return None
    if source.pooled:
        return "image_pooling"
    return "aspp0" if segmentation else "Conv_1"


def _after_concatenation(layers: tuple[str, ...], depthwise: bool) -> str | None:
    # The order of the branches is the order of the projection's input channels.
    branches = ("image_pooling", "aspp0", "aspp1_pointwise", "aspp2_pointwise", "aspp3_pointwise")
    if layers == branches[: len(layers)]:
        return None if depthwise else "concat_projection"
    if set(layers) == {"concat_projection", "decoder_feature_projection0"}:
        return "decoder_conv0_depthwise" if depthwise else None
    return None


# --- metadata -----------------------------------------------------------------------------------------------


def labels_of(data: bytes, classes: int) -> tuple[str, ...] | None:
    """The label file in the zip archive that TFLite metadata appends to the model, if it fits."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            for text in _text_files(archive):
                lines = tuple(line.strip() for line in text.splitlines())
                if len(lines) == classes:
                    return lines
    except ARCHIVE_ERRORS:
        # Most models carry no archive; a broken one costs only the labels.
        return None
    return None


def _text_files(archive: zipfile.ZipFile) -> Iterator[str]:
    # A label file has a few kB; zipfile unpacks no more than the size that the archive states.
    for info in archive.infolist()[:20]:
        if info.compress_type in COMPRESSIONS and info.filename.endswith(".txt") and info.file_size <= 1 << 20:
            yield archive.read(info).decode("utf-8", "replace")


def read(path: str | Path) -> Checkpoint:
    """Read a TFLite model: classification, DeepLab, SSD or features.

    Float16 weights and those of dynamic-range models (integer weights in a network of real numbers) are widened to
    float32. A wholly quantized model keeps its integers and their `Quantization`.

    Parameters
    ----------
    path : str or Path
        A ``.tflite`` file.

    Returns
    -------
    Checkpoint
        Kernels and biases with the batch norms folded in, as the file has them.

    Raises
    ------
    WeightsError
        If the file is damaged, not a MobileNetV2, or quantized in a way that is not supported.
    """
    from .tflite_integers import is_quantized, with_integers

    walk, checkpoint = read_real(Path(path))
    return with_integers(walk, checkpoint) if is_quantized(walk) else checkpoint


def read_real(path: Path) -> tuple[Walk, Checkpoint]:
    """The walk along a file's graph, and its network in real numbers, whatever the file's integers stand for."""
    from .tflite_metadata import stated

    model = Model.open(path)
    walk = Walk(model)
    walk.run()
    if "Conv1/kernel" not in walk.weights:
        raise WeightsError(f"{path}: holds no convolutions, so it is not a MobileNetV2")
    _image_range(walk)
    size = model.shape(model.inputs[0])[1:3]
    known: dict[str, Any] = {
        "output_stride": _output_stride(walk),
        "tf_padding": not walk.symmetric,
        "hidden_act": _hidden_act(walk),
        **({"image_size": int(max(size))} if len(size) == 2 and min(size) >= 32 else {}),
    }
    rates = [walk.dilations[layer] for layer in walk.dilations if re.fullmatch(r"aspp\d_depthwise", layer)]
    if rates:
        known["atrous_rates"] = tuple(rates)
    labels = labels_of(model.root.buffer.data, class_count(walk.weights))
    # transformers' rule is the only one by which the first block adds nothing where it could.
    maker = "slim" if "expanded_conv_project" in walk.residuals else "transformers"
    content = Content(walk.weights, known, maker, labels=labels, preprocessing=_preprocessing(walk))
    if walk.head.names:
        content = _with_settings(walk, content)
    checkpoint = assemble(path, "tflite", replace(content, **stated(model)))
    _check_graph(walk, checkpoint)
    return walk, checkpoint


def _with_settings(walk: Walk, content: Content) -> Content:
    """What a detector's file says of its anchors and its post-processing."""
    from .tflite_ssd import settings_of

    postprocess, classes = walk.head.postprocess, class_count(walk.weights)
    content = replace(content, preprocessing=None, ssd=settings_of(walk.model, walk.head, classes))
    if content.labels is None and content.ssd["background"]:
        # Label files leave the background out.
        labels = labels_of(walk.model.root.buffer.data, classes - 1)
        content = replace(content, labels=(BACKGROUND, *labels) if labels else None)
    if postprocess is None or len(postprocess.inputs) < 3:
        return content
    return replace(content, anchors=walk.float_constant(postprocess.inputs[2]))


def _image_range(walk: Walk) -> None:
    """Check the graph's own preprocessing: none, or from 0…255 to −1…1."""
    stem = next(op for op in walk.model.operators if op.kind in _CONVOLUTIONS)
    value = walk.values[stem.inputs[0]]
    if (value.scale, value.offset) != (1, 0) and max(abs(value.scale * 127.5 - 1), abs(value.offset + 1)) > 0.01:
        raise WeightsError(
            f"{walk.model.path}: its graph takes the image times {value.scale:g} plus {value.offset:g}, "
            "other than to −1…1, which is not supported"
        )


def _hidden_act(walk: Walk) -> str:
    """The activation that all wide layers of the backbone have and all projections do not."""
    found: dict[str, set[int]] = {}
    for layer, activation in walk.activations.items():
        if layer in BACKBONE:
            found.setdefault("narrow" if layer.endswith("project") else "wide", set()).add(activation)
    wide = found.get("wide", set())
    if found.get("narrow", {_LINEAR}) != {_LINEAR} or len(wide) != 1 or not wide <= set(_ACTIVATIONS):
        raise WeightsError(f"{walk.model.path}: its activations are not those of a MobileNetV2")
    return _ACTIVATIONS[wide.pop()]


def _check_graph(walk: Walk, checkpoint: Checkpoint) -> None:
    """Check that activations, strides, dilations and residuals are those of the configuration."""
    assert checkpoint.config is not None
    if (act := _hidden_act(walk)) != checkpoint.config.hidden_act:
        raise WeightsError(
            f"{walk.model.path}: its activation is {act}, and its metadata states {checkpoint.config.hidden_act!r}"
        )
    plan = detector(checkpoint.config) if walk.head.names else backbone(checkpoint.config)
    residuals = {f"{node.name}_project" for node in plan.nodes if getattr(node.layer, "residual", False)}
    if walk.residuals != residuals:
        odd = ", ".join(sorted(walk.residuals ^ residuals))
        raise WeightsError(f"{walk.model.path}: residual connections differ from a MobileNetV2's at {odd}")
    for part in plan.parts():
        if isinstance(part.layer, (Conv, Depthwise)) and part.name in walk.strides:
            found = walk.strides[part.name], walk.dilations[part.name]
            if found != (part.layer.stride, part.layer.dilation):
                raise WeightsError(
                    f"{walk.model.path}: layer {part.name} has stride and dilation {found}, a MobileNetV2 of "
                    f"output stride {checkpoint.config.output_stride} has "
                    f"{(part.layer.stride, part.layer.dilation)}"
                )
            if walk.head.names and part.name not in BACKBONE:
                _check_activation(walk, part.name, part.layer)


def _check_activation(walk: Walk, name: str, layer: Conv | Depthwise) -> None:
    """Check a layer of a detector's head; integers may leave an activation to their range."""
    found = _ACTIVATIONS.get(walk.activations[name], "linear")
    if walk.model.scales(walk.operators[name].outputs[0]) is None and found != layer.activation:
        raise WeightsError(f"{walk.model.path}: layer {name} has the activation {found}, not {layer.activation}")


def _preprocessing(walk: Walk) -> dict[str, Any] | None:
    """TF-slim's models keep the names of their scopes; other classifiers come from Keras."""
    numbers = {number for operator in walk.model.operators for number in operator.inputs if number >= 0}
    from_slim = any("obilenetV2/" in walk.model.name(number) for number in numbers)
    return None if from_slim or walk.segmentation else {"preset": "keras"}


def _output_stride(walk: Walk) -> int:
    backbone = [stride for layer, stride in walk.strides.items() if layer == "Conv1" or layer.startswith("block_")]
    return int(np.prod(backbone, dtype=object))
