"""Graphs of TensorFlow whose variables became constants, in whatever notation a file has them.

Each convolution of the graph leads to its weights: its kernel is a constant behind at most some identities,
and what takes its result is a fused batch norm or, in graphs with folded batch norms, the addition of a bias.
The name of the operation, or of its kernel, says which layer it is. `graph_def` and `tfjs` say how a file holds
operations and constants.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.network.architecture import CLASSIFIER
from npmnv2.network.plan import BATCH_NORM_VARIABLES
from npmnv2.weights.assemble import Content, assemble, class_count, task_of
from npmnv2.weights.bounds import Array, Budget, damaged
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.names import canonical, is_depthwise, split
from npmnv2.weights.quantize import Range

from .fake_quant import OPERATION, range_name, with_ranges
from .names import canonical_from_keras, canonical_from_slim, from_slim_layout

MAX_NODES = 100_000
# The last two, which TensorFlow.js's converter makes, take a bias as well and may end in an activation.
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative", "_FusedConv2D", "FusedDepthwiseConv2dNative")
_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_SUMS = ("BiasAdd", "Add", "AddV2")
# AddN: an optimizer may add the residual before the bias.
_PASSING = ("Identity", "BatchToSpaceND", "StopGradient", "AddN")
_CALL_NUMBER = re.compile(r"_\d+$")
_CONSTANT_PASSING = ("Identity", "StopGradient")
FAKE_QUANT = "FakeQuantWithMinMaxVars"
# What folding a batch norm takes.
_EVALUATED: dict[str, Callable[..., Array]] = {
    "Identity": lambda x: x,
    "Mul": np.multiply,
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Reshape": lambda x, shape: x.reshape(tuple(map(int, shape))),
}
_DEEPEST = 32
# Scopes inside that of a layer: …/BatchNorm/batchnorm/mul_1, where a convolution has taken the place of a scaling.
_SCOPES = 3


class Attributes(ABC):
    """The attributes of an operation. One that is absent has the value that TensorFlow's protocol buffers have then."""

    @abstractmethod
    def integers(self, key: str) -> list[int]:
        """A list of integers."""

    @abstractmethod
    def texts(self, key: str) -> list[str]:
        """A list of texts."""

    @abstractmethod
    def dimensions(self, key: str) -> list[int]:
        """A shape; −1 for a dimension that is open."""

    @abstractmethod
    def real(self, key: str) -> float:
        """A real number."""

    @abstractmethod
    def flag(self, key: str) -> bool:
        """Yes or no."""


@dataclass(frozen=True)
class Operation:
    """One node of the graph."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    attributes: Attributes


@dataclass
class Graph(ABC):
    """The operations of a graph.

    Attributes
    ----------
    path : Path
    """

    path: Path
    _tensors: dict[str, Array] = field(default_factory=dict, init=False, repr=False)

    @property
    @abstractmethod
    def budget(self) -> Budget:
        """What reading the graph may cost."""

    @abstractmethod
    def all_operations(self) -> Iterator[Operation]:
        """All operations in the file's order."""

    @abstractmethod
    def tensor(self, operation: Operation) -> Array:
        """The value of a constant."""

    @cached_property
    def operations(self) -> dict[str, Operation]:
        """All operations by name, in the file's order."""
        found: dict[str, Operation] = {}
        for operation in self.all_operations():
            if operation.name in found:
                raise damaged(self.path, f"two operations have the name {operation.name!r}")
            found[operation.name] = operation
            if len(found) > MAX_NODES:
                raise damaged(self.path, f"more than {MAX_NODES:,} operations")
        return found

    @cached_property
    def consumers(self) -> dict[str, list[Operation]]:
        """The operations that take an operation's result."""
        consumers: dict[str, list[Operation]] = {}
        for operation in self.operations.values():
            for name in operation.inputs:
                consumers.setdefault(name, []).append(operation)
        return consumers

    def constant(self, name: str) -> Array | None:
        """The constant that an input leads to, None if it is computed."""
        for _ in range(8):
            self.budget.step()
            operation = self.operations.get(name)
            if operation is None:
                return None
            if operation.kind == "Const":
                if name not in self._tensors:
                    self._tensors[name] = self.tensor(operation)
                return self._tensors[name]
            if operation.kind == FAKE_QUANT and operation.inputs:
                return self.evaluate(operation.inputs[0])
            if operation.kind not in _CONSTANT_PASSING or not operation.inputs:
                return None
            name = operation.inputs[0]
        return None

    def evaluate(self, name: str, depth: int = 0) -> Array | None:
        """The constant that an input is computed from constants to, as kernels and biases are where a graph folds
        batch norms.
        """
        self.budget.step()
        operation = self.operations.get(name)
        if operation is None or depth > _DEEPEST:
            return None
        if operation.kind == "Const":
            return self.constant(name)
        if operation.kind not in _EVALUATED:
            return None
        values = [self.evaluate(source, depth + 1) for source in operation.inputs]
        if any(value is None for value in values):
            return None
        with np.errstate(all="ignore"):
            result: Array = _EVALUATED[operation.kind](*values)
        self.budget.take(result.nbytes)
        return result

    def ranges(self) -> dict[str, Range]:
        """The ranges of all fake quantization, by kernel or value."""
        found: dict[str, Range] = {}
        for operation in self.operations.values():
            match = OPERATION.fullmatch(operation.name) if operation.kind == FAKE_QUANT else None
            known = range_name(match["scope"], match["kind"]) if match else None
            ends = [self.constant(name) for name in operation.inputs[1:3]] if known else []
            if known and len(ends) == 2 and all(end is not None and end.size == 1 for end in ends):
                low, high = (float(end.reshape(-1)[0]) for end in ends if end is not None)
                found[known] = low, high
        return found

    def constants(self, names: Iterable[str]) -> Iterator[Array]:
        """The inputs among `names` that are constants."""
        return (value for name in names if (value := self.constant(name)) is not None)

    def feeding(self, operation: Operation) -> list[Operation]:
        """The operations that an operation takes its inputs from."""
        return [self.operations[name] for name in operation.inputs if name in self.operations]

    def following(self, operation: Operation) -> Operation | None:
        """The operation after a convolution: a batch norm (whole, or its first step) or the addition of a bias."""
        name = operation.name
        for _ in range(8):
            for consumer in self.consumers.get(name, []):
                self.budget.step()
                if consumer.kind in (*_NORMS, *_SUMS, "Mul"):
                    return consumer
            passing = [c for c in self.consumers.get(name, []) if c.kind in _PASSING]
            if len(passing) != 1:
                return None
            name = passing[0].name
        return None


def _layer_of(operation: Operation) -> str | None:
    """The layer that an operation computes, by the scope that it or its kernel is in (TF-slim's or Keras's)."""
    for name in (operation.name, *operation.inputs[1:2]):
        for _ in range(_SCOPES):
            name = name.rpartition("/")[0]
            known = canonical_from_slim(f"{name}/weights") or canonical_from_slim(f"{name}/depthwise_weights")
            # Keras 3 numbers the calls of a layer: Conv1_1 is Conv1, but Conv_1 is a layer of its own.
            known = known or canonical_from_keras(f"{name}/kernel")
            known = known or canonical_from_keras(f"{_CALL_NUMBER.sub('', name)}/kernel")
            if known is not None:
                return split(known)[0]
    return CLASSIFIER if operation.kind == "MatMul" else None


def _weights(graph: Graph) -> tuple[dict[str, Array], dict[str, Any], tuple[str, ...]]:
    """Canonical weights, fields of the configuration that the graph shows, and names of foreign convolutions."""
    weights: dict[str, Array] = {}
    strides: dict[str, int] = {}
    epsilons: set[float] = set()
    unexpected: list[str] = []
    for operation in graph.operations.values():
        if operation.kind not in (*_CONVOLUTIONS, "MatMul") or len(operation.inputs) < 2:
            continue
        kernel = graph.constant(operation.inputs[1])
        if kernel is None:
            continue
        layer = _layer_of(operation)
        if layer is None:
            unexpected.append(operation.name)
            continue
        if f"{layer}/kernel" in weights:
            raise WeightsError(f"{graph.path}: two operations look like layer {layer}")
        weights[f"{layer}/kernel"] = from_slim_layout(f"{layer}/kernel", kernel)
        shift = _shift(graph, operation, layer, epsilons)
        weights.update({name: value for name, value in shift if value is not None})
        strides[layer] = max([1, *operation.attributes.integers("strides")])
    known: dict[str, Any] = dict(_known(graph, strides, epsilons))
    return weights, known, tuple(unexpected)


def _shift(graph: Graph, operation: Operation, layer: str, epsilons: set[float]) -> Iterator[tuple[str, Array | None]]:
    """The variables of the batch norm after a convolution, or its bias; its kernel too, if it is scaled afterwards."""
    following = graph.following(operation)
    if "BiasAdd" in operation.attributes.texts("fused_ops"):
        yield f"{layer}/bias", _vector(graph.constant(operation.inputs[-1]))
        return
    if following is None:
        return
    if following.kind in _SUMS:
        bias = next(graph.constants(following.inputs), None)
        computed = (graph.evaluate(name) for name in following.inputs)
        bias = next((x for x in computed if x is not None), None) if bias is None else bias
        yield f"{layer}/bias", _vector(bias)
        return
    if following.kind == "Mul":
        norm = _written_out(graph, following)
        if norm is None:
            yield from _folded_in_part(graph, operation, following, layer)
    else:
        values = [graph.constant(name) for name in following.inputs[1:5]]
        norm = Norm(following.attributes.real("epsilon"), *values)
    if norm is None:
        return
    if layer == "Conv1":
        epsilons.add(norm.epsilon)
    for role in BATCH_NORM_VARIABLES:
        yield canonical(layer, role), _vector(getattr(norm, role))


def _vector(value: Array | None) -> Array | None:
    return None if value is None else value.reshape(-1)


def _folded_in_part(
    graph: Graph, operation: Operation, scaling: Operation, layer: str
) -> Iterator[tuple[str, Array | None]]:
    """Kernel and bias of a convolution whose batch norm has become a factor and an addend: x·s + b."""
    addition = next((op for op in graph.consumers.get(scaling.name, []) if op.kind in _SUMS), None)
    scale, kernel = next(graph.constants(scaling.inputs), None), graph.constant(operation.inputs[1])
    if scale is None or addition is None or kernel is None or kernel.ndim != 4:
        return
    axis = 2 if is_depthwise(layer) else 3
    if scale.size != kernel.shape[axis]:
        raise damaged(graph.path, f"{scale.size} factors for a kernel of shape {kernel.shape}", f"layer {layer}")
    factors = scale.reshape((-1, 1) if is_depthwise(layer) else -1).astype(np.float64)
    graph.budget.take(12 * kernel.size)
    with np.errstate(over="ignore", invalid="ignore"):
        yield f"{layer}/kernel", (kernel * factors).astype(np.float32)
    yield f"{layer}/bias", _vector(next(graph.constants(addition.inputs), None))


class Norm(NamedTuple):
    """The constants of a batch norm."""

    epsilon: float
    gamma: Array | None = None
    beta: Array | None = None
    moving_mean: Array | None = None
    moving_variance: Array | None = None


def _written_out(graph: Graph, scaling: Operation) -> Norm | None:
    """A batch norm in single steps: x·s + (β − μ·s) with s = γ·rsqrt(σ² + ε), as Keras 3 and old TF-slim have
    it.
    """
    scale = next((op for op in graph.feeding(scaling) if op.kind == "Mul"), None)
    addition = next((op for op in graph.consumers.get(scaling.name, []) if op.kind in _SUMS), None)
    if scale is None or addition is None:
        return None
    root = next((op for op in graph.feeding(scale) if op.kind == "Rsqrt"), None)
    offset = next((op for op in graph.feeding(addition) if op.kind == "Sub"), None)
    if root is None or offset is None:
        return None
    radicand = next(iter(graph.feeding(root)), None)
    product = next((op for op in graph.feeding(offset) if op.kind == "Mul"), None)
    if radicand is None or product is None:
        return None
    under = sorted(graph.constants(radicand.inputs), key=lambda value: value.ndim)
    if len(under) != 2 or under[0].ndim:
        return None
    gamma, beta, mean = (next(graph.constants(op.inputs), None) for op in (scale, offset, product))
    return Norm(float(under[0]), gamma, beta, mean, under[1])


def _known(graph: Graph, strides: dict[str, int], epsilons: set[float]) -> Iterator[tuple[str, Any]]:
    backbone = [stride for layer, stride in strides.items() if layer == "Conv1" or layer.startswith("block_")]
    product = int(np.prod(backbone, dtype=object))
    if product in (2, 4, 8, 16, 32):
        yield "output_stride", product
    # 0.0010000000474974513 is 0.001 as a float32.
    if epsilons and round(max(epsilons), 6) != 0.001 and max(epsilons) > 0:
        yield "layer_norm_eps", round(max(epsilons), 9)
    if _pads_both_sides(graph):
        yield "tf_padding", False
    kinds = {operation.kind for operation in graph.operations.values()}
    kinds.update(*(op.attributes.texts("fused_ops") for op in graph.operations.values() if op.kind in _CONVOLUTIONS))
    if "Relu6" not in kinds and "Relu" in kinds:
        yield "hidden_act", "relu"
    for operation in graph.operations.values():
        if operation.kind == "Placeholder":
            sides = operation.attributes.dimensions("shape")[1:3]
            if len(sides) == 2 and min(sides) >= 32 and max(sides) < 1 << 16:
                yield "image_size", max(sides)
            return


def _pads_both_sides(graph: Graph) -> bool:
    """Whether one pixel is padded on all sides before the first convolution, where TensorFlow's SAME pads
    two.
    """
    stem = next((op for op in graph.operations.values() if op.kind == "Conv2D" and _layer_of(op) == "Conv1"), None)
    pad = next((op for op in graph.feeding(stem) if op.kind == "Pad"), None) if stem else None
    pads = next(graph.constants(pad.inputs), None) if pad else None
    return pads is not None and pads.shape == (4, 2) and bool((pads[1:3] == 1).all())


def with_settings(graph: Graph, content: Content) -> Content:
    """What a detector's graph says of its input, its anchors and its post-processing."""
    from .ssd_graph import input_size, listed_anchors, settings_of

    size = input_size(graph)
    if size is not None:
        known = {**content.known, "image_size": max(size)}
        content = replace(content, known=known, preprocessing={"preset": "ssd", **_size(*size)})
    classes = class_count(content.weights)
    return replace(content, ssd={**content.ssd, **settings_of(graph, classes)}, anchors=listed_anchors(graph))


def _size(height: int, width: int) -> dict[str, Any]:
    return {} if height == width else {"size": [height, width]}


def read_graph(graph: Graph, file_format: str) -> Checkpoint:
    """The checkpoint that a graph of TF-slim, DeepLab, the Object Detection API or Keras holds.

    Raises
    ------
    WeightsError
    """
    path = graph.path
    if not graph.operations:
        raise damaged(path, "no operations, so it is not a frozen graph")
    weights, known, unexpected = _weights(graph)
    if not weights:
        kinds = sorted({operation.kind for operation in graph.operations.values()} & {"VariableV2", "VarHandleOp"})
        hint = "; its variables are not in the file: freeze it or read the checkpoint beside it" if kinds else ""
        raise WeightsError(f"{path}: holds no convolution of a MobileNetV2 with constant weights{hint}")
    from_keras = any("/Conv1" in f"/{name}" for name in graph.operations)
    content = Content(
        weights,
        known,
        maker="keras" if from_keras else "slim",
        unexpected=unexpected,
        preprocessing={"preset": "keras"} if from_keras else None,
    )
    if task_of(weights) == "detection":
        content = with_settings(graph, content)
    checkpoint = assemble(path, file_format, content)
    if not any(operation.kind == FAKE_QUANT for operation in graph.operations.values()):
        return checkpoint
    return with_ranges(checkpoint, graph.ranges(), str(path))
