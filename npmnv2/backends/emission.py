"""The second pass of lowering: every operation becomes instructions.

An instruction says which values it reads and writes, and how its record is made once it is known where they lie. So
nothing here depends on addresses. `EMITTERS` has one function for each type of layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import ClassVar, NamedTuple

from npmnv2.backends.fusion import RULES, BroadcastConcatConv, Operation, Rule, StemBlock
from npmnv2.backends.packed_weights import PackedWeights
from npmnv2.backends.partition import Subgraph
from npmnv2.kernels.host.build import ExpandedMap, Step, TensorView
from npmnv2.network.layers import (
    Add,
    AveragePool,
    Concat,
    ConcatRows,
    Conv,
    Dense,
    Depthwise,
    GlobalAveragePool,
    InvertedResidual,
    ResizeLike,
    Shape,
)
from npmnv2.network.plan import IMAGE


class Storage(Enum):
    """Memory for a value: an array of the caller, the arena of one image, or that of a whole batch."""

    EXTERNAL = "external"
    ARENA = "arena"
    BATCH = "batch"


class Value(NamedTuple):
    """A feature map (height, width, channels) in memory; an `exact` one is not shortened, see `Builder.resident`."""

    name: str
    shape: tuple[int, int, int]
    storage: Storage
    exact: bool = False


class Instruction(NamedTuple):
    """One step of a program before memory is allocated.

    Attributes
    ----------
    label : str
        The operation that it belongs to.
    reads : tuple of Value
    writes : Value
    build : callable
        Makes the step of the views of `reads` and `writes`, in this order.
    """

    label: str
    reads: tuple[Value, ...]
    writes: Value
    build: Callable[..., Step]

    @property
    def batched(self) -> bool:
        """Whether it runs once for a whole batch, after all images: if it reads what is kept of every image."""
        return any(value.storage is Storage.BATCH for value in self.reads)


class Emitter:
    """Collects the instructions of a subgraph.

    Parameters
    ----------
    subgraph : Subgraph
    shapes : mapping of str to (height, width, channels)
        Of all values.
    weights : PackedWeights
    n_threads : int

    Attributes
    ----------
    build : Builder
        Makes the steps.
    instructions : list of Instruction
    """

    rules: ClassVar[tuple[Rule, ...]] = RULES

    def __init__(self, subgraph: Subgraph, shapes: Mapping[str, Shape], weights: PackedWeights, n_threads: int) -> None:
        self.build = weights.build
        self.shapes, self.weights, self.n_threads = shapes, weights, n_threads
        self.instructions: list[Instruction] = []
        self._label = ""
        self._outputs = subgraph.outputs
        self._values = {name: self._value(name, Storage.EXTERNAL) for name in subgraph.inputs}

    def run(self, operations: Sequence[Operation]) -> None:
        """Emit operations one by one, and copy outputs to the caller's arrays."""
        for operation in operations:
            self._label = operation.label
            self.table()[type(operation.layer)](self, operation, operation.layer)
            if operation.output in self._outputs and self.value(operation.output).storage is not Storage.EXTERNAL:
                outside = self._value(operation.output, Storage.EXTERNAL)
                self.add(self.build.copy, self.value(operation.output), to=outside)

    def table(self) -> Mapping[type, Callable[..., None]]:
        """What emits each type of layer."""
        return EMITTERS

    def add(self, make: Callable[..., Step], *reads: Value, to: Value) -> None:
        """Append an instruction to those of the operation at hand."""
        self.instructions.append(Instruction(self._label, reads, to, make))

    def value(self, name: str) -> Value:
        """The value called `name`, wherever it lies."""
        return self._values[name]

    def resident(self, name: str) -> Value:
        """The value called `name` with pixels padded to whole vectors; one from outside is copied."""
        outside = self._values[name]
        if outside.storage is Storage.EXTERNAL:
            self.add(self.build.copy, outside, to=self.new(name))
        return self._values[name]

    def multiplied(self, name: str) -> Value:
        """The value called `name` for a matrix product, which may read beyond its pixels."""
        return self.resident(name) if self.build.reads_words else self.value(name)

    def convolved(self, name: str) -> Value:
        """The value called `name` for a full convolution, which takes the image, or maps as layers write them."""
        return self.resident(name) if self.build.shortens and name != IMAGE else self.value(name)

    def new(self, name: str, storage: Storage = Storage.ARENA) -> Value:
        """The value that a node makes."""
        self._values[name] = self._value(name, storage)
        return self._values[name]

    def _value(self, name: str, storage: Storage) -> Value:
        return Value(name, as_map(self.shapes[name]), storage, name in self.weights.exact)


def as_map(shape: Shape) -> tuple[int, int, int]:
    """The shape of a feature map: of one row where there is no height, of one pixel where there is no width."""
    height, width, channels = (*(1,) * (3 - len(shape)), *shape)
    return height, width, channels


# ---- Layers ----------------------------------------------------------------------------------------------------------


def _conv(emit: Emitter, operation: Operation, layer: Conv) -> None:
    packed = emit.weights[operation.output]

    def make(source: TensorView, output: TensorView) -> Step:
        if layer.kernel == 1 and layer.stride == 1:
            return emit.build.pointwise(source, output, packed)
        return emit.build.conv(source, output, packed, layer.kernel, layer.geometry(source.height, source.width))

    (name,) = operation.inputs
    source = emit.convolved(name) if layer.kernel > 1 or layer.stride > 1 else emit.multiplied(name)
    emit.add(make, source, to=emit.new(operation.output))


def _depthwise(emit: Emitter, operation: Operation, layer: Depthwise) -> None:
    packed = emit.weights[operation.output]

    def make(source: TensorView, output: TensorView) -> Step:
        geometry = layer.geometry(source.height, source.width)
        return emit.build.depthwise(source, output, emit.build.expanded_copy(source), packed, geometry)

    source = emit.resident(operation.inputs[0])
    emit.add(make, source, to=emit.new(operation.output))


def _dense(emit: Emitter, operation: Operation, _: Dense) -> None:
    packed, source = emit.weights[operation.output], emit.multiplied(operation.inputs[0])
    # After a pool with a fixed window there may be more pixels than one.
    make = emit.build.dense if source.shape[:2] == (1, 1) else emit.build.pointwise
    result = emit.new(operation.output, Storage.BATCH if source.storage is Storage.BATCH else Storage.ARENA)
    emit.add(lambda source, output: make(source, output, packed), source, to=result)


def _global_average_pool(emit: Emitter, operation: Operation, layer: GlobalAveragePool) -> None:
    source = emit.resident(operation.inputs[0])
    # One vector per image is left: what follows runs for all images at once.
    result = emit.new(operation.output, Storage.ARENA if layer.keep_dims else Storage.BATCH)
    window = source.shape[:2]
    emit.add(lambda source, output: emit.build.pool(source, output, window), source, to=result)


def _average_pool(emit: Emitter, operation: Operation, layer: AveragePool) -> None:
    def make(source: TensorView, output: TensorView) -> Step:
        return emit.build.pool(source, output, (layer.window, layer.window), layer.stride)

    source = emit.resident(operation.inputs[0])
    emit.add(make, source, to=emit.new(operation.output))


def _add(emit: Emitter, operation: Operation, _: Add) -> None:
    one, other = (emit.resident(name) for name in operation.inputs)
    emit.add(emit.build.add, one, other, to=emit.new(operation.output))


def _concat(emit: Emitter, operation: Operation, _: Concat) -> None:
    result, first = emit.new(operation.output), 0
    for name in operation.inputs:
        source = emit.value(name)
        emit.add(_copy_to_channel(emit, first), source, to=result)
        first += source.shape[-1]


def _copy_to_channel(emit: Emitter, first: int) -> Callable[[TensorView, TensorView], Step]:
    def make(source: TensorView, output: TensorView) -> Step:
        return emit.build.copy(source, output._replace(ref=output.ref + first * output.channel_bytes))

    return make


def _concat_rows(emit: Emitter, operation: Operation, _: ConcatRows) -> None:
    # Nothing that is compiled follows, and rows without gaps are those of the caller's array.
    result, first = emit.new(operation.output, Storage.EXTERNAL), 0
    for name in operation.inputs:
        source = emit.value(name)
        emit.add(_copy_to_rows(emit, first), source, to=result)
        first += math.prod(source.shape)


def _copy_to_rows(emit: Emitter, first: int) -> Callable[[TensorView, TensorView], Step]:
    """A copy of all pixels, one after the other without gaps, to the numbers from `first` on."""

    def make(source: TensorView, output: TensorView) -> Step:
        start = output.ref + first * output.channel_bytes
        return emit.build.copy(source, emit.build.external(start, *source[2:5]))

    return make


def _resize_like(emit: Emitter, operation: Operation, layer: ResizeLike) -> None:
    def make(source: TensorView, output: TensorView) -> Step:
        return emit.build.resize(source, output, layer.variant)

    source = emit.resident(operation.inputs[0])
    emit.add(make, source, to=emit.new(operation.output))


# ---- Fused layers ----------------------------------------------------------------------------------------------------


def _broadcast_concat_conv(emit: Emitter, operation: Operation, _: BroadcastConcatConv) -> None:
    for_pixel, for_map = emit.weights.split(operation.output)
    pixel, other = (emit.resident(name) for name in operation.inputs)
    # It takes the place of a bias.
    started = Value(f"{operation.output}/started", (1, 1, for_pixel.channels), Storage.ARENA, exact=True)

    def start(pixel: TensorView, started: TensorView) -> Step:
        return emit.build.pointwise(pixel, started, for_pixel)

    def finish(other: TensorView, started: TensorView, output: TensorView) -> Step:
        return emit.build.pointwise(other, output, for_map._replace(bias=started.ref))

    emit.add(start, pixel, to=started)
    emit.add(finish, other, started, to=emit.new(operation.output))


class _Expansion(NamedTuple):
    """What the depthwise convolution of a block reads.

    Attributes
    ----------
    source : Value
    shape : (height, width, channels)
        What it is expanded to.
    multiply_adds : int
        For each value of the expanded map.
    expand : callable
        Says how.
    """

    source: Value
    shape: tuple[int, int, int]
    multiply_adds: int
    expand: Callable[[TensorView], ExpandedMap]


def _stem_block(emit: Emitter, operation: Operation, layer: StemBlock) -> None:
    stem = operation.names[0]
    packed = emit.weights[stem]

    def expand(source: TensorView) -> ExpandedMap:
        return emit.build.expanded_conv(
            source, packed, layer.conv.kernel, layer.conv.geometry(source.height, source.width)
        )

    source = emit.value(operation.inputs[0])
    window = layer.conv.kernel**2 * source.shape[2]
    expansion = _Expansion(source, as_map(emit.shapes[stem]), window, expand)
    _block(emit, operation, layer.block, expansion)


def _inverted_residual(emit: Emitter, operation: Operation, layer: InvertedResidual) -> None:
    source = emit.resident(operation.inputs[0])
    if layer.expansion is None:
        expansion = _Expansion(source, source.shape, 0, emit.build.expanded_copy)
    else:
        packed = emit.weights[f"{operation.output}_expand"]
        height, width, channels = source.shape
        shape = (height, width, layer.expansion)
        expansion = _Expansion(source, shape, channels, lambda source: emit.build.expanded_pointwise(source, packed))
    _block(emit, operation, layer, expansion)


def _block(emit: Emitter, operation: Operation, layer: InvertedResidual, expansion: _Expansion) -> None:
    """Emit a block as one instruction, or as two where workers share its channels."""
    name = operation.output
    depthwise = layer.parts()["depthwise"]
    assert isinstance(depthwise, Depthwise)
    filters, project = emit.weights[f"{name}_depthwise"], emit.weights[f"{name}_project"]
    geometry = depthwise.geometry(*expansion.shape[:2])
    height, width, channels = emit.shapes[name]

    def whole(source: TensorView, output: TensorView) -> Step:
        expanded = expansion.expand(source)
        return emit.build.inverted_residual(source, output, expanded, filters, geometry, project, layer.residual)

    def filter_panels(source: TensorView, filtered: TensorView) -> Step:
        return emit.build.depthwise(source, filtered, expansion.expand(source), filters, geometry, by_panels=True)

    def project_filtered(filtered: TensorView, source: TensorView, output: TensorView) -> Step:
        return emit.build.pointwise(filtered, output, project, source if layer.residual else None)

    source = expansion.source
    if not _shares_channels(expansion, depthwise, (height, channels), emit):
        emit.add(whole, source, to=emit.new(name))
        return
    filtered = Value(f"{name}/filtered", (height, width, expansion.shape[2]), Storage.ARENA)
    emit.add(filter_panels, source, to=filtered)
    emit.add(project_filtered, filtered, source, to=emit.new(name))


# What it costs to fetch a value of the filtered map from another worker's cache, in multiply-adds (measured on Zen 4:
# 6 to 8 ns for 16 of them, half of which are a worker's own already).
FETCH = 25


def _shares_channels(expansion: _Expansion, depthwise: Depthwise, output: tuple[int, int], emit: Emitter) -> bool:
    """Whether workers share the panels of the expanded map rather than the rows of the output (height, channels).

    Rows of the expanded map at the edge of a worker's share are computed twice; panels may not divide evenly, and the
    filtered map goes from one worker's cache to another's.
    """
    workers, (height, channels) = emit.n_threads, output
    if workers == 1:
        return False
    # Multiply-adds for each value of the filtered map.
    expand = expansion.multiply_adds * depthwise.stride**2
    work = expand + depthwise.kernel**2 + channels
    rows = -(-height // workers)
    overlap = max(2 * depthwise.dilation + 1 - depthwise.stride, 0)
    twice = overlap / (rows * depthwise.stride) * (workers - 1) / workers
    by_rows = rows * workers / height * (1 + twice * expand / work)
    panels = max(1, emit.build.target.vectors(expansion.shape[2]) // 2)
    by_panels = -(-panels // workers) * workers / panels * (1 + FETCH / work)
    return bool(by_panels < by_rows)


EMITTERS: dict[type, Callable[..., None]] = {
    Conv: _conv,
    Depthwise: _depthwise,
    Dense: _dense,
    GlobalAveragePool: _global_average_pool,
    AveragePool: _average_pool,
    Add: _add,
    Concat: _concat,
    ConcatRows: _concat_rows,
    ResizeLike: _resize_like,
    InvertedResidual: _inverted_residual,
    StemBlock: _stem_block,
    BroadcastConcatConv: _broadcast_concat_conv,
}
