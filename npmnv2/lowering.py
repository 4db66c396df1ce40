"""The Numba backend: a plan becomes a table of steps that one compiled function walks through.

Lowering decides, once per input size and set of outputs, what runs fused, where every feature map lies in one piece of
memory, and how the work is cut into strips. See kernels/README.md for the layouts and a drawing of the strips.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npmnv2.activations import activation
from npmnv2.backends import Timing
from npmnv2.kernels import Array, Clip, samples
from npmnv2.kernels.jitted import packing, program, steps
from npmnv2.kernels.jitted.resize import SAMPLE
from npmnv2.kernels.jitted.simd import FLOAT_BYTES, vectors
from npmnv2.kernels.jitted.threads import workers
from npmnv2.layers import (
    Add,
    AveragePool,
    Concat,
    Conv,
    Dense,
    Depthwise,
    GlobalAveragePool,
    InvertedResidual,
    ResizeLike,
    Shape,
)
from npmnv2.plan import IMAGE, Node, Plan, Schedule, parts_of

Weights = Mapping[str, Array]

# A panel's rows should stay in the first-level cache (32 to 48 KB), a filtered strip in part of the second.
_RING_BYTES = int(__import__('os').environ.get('RB', 64)) * 1024
_STRIP_BYTES = int(__import__('os').environ.get('SB', 192)) * 1024
_LINE = 64


def _round_up(size: int) -> int:
    return -(-size // _LINE) * _LINE


class Value(NamedTuple):
    """Where a feature map lies: one image, pixel by pixel, each pixel filled up to whole vectors."""

    place: int
    step: int
    height: int
    width: int
    channels: int

    @property
    def vectors(self) -> int:
        return vectors().count(self.channels)


class Heap:
    """Hands out pieces of one block of memory by first fit and remembers its size."""

    def __init__(self) -> None:
        self.size = 0
        self._used: list[tuple[int, int]] = []

    def take(self, size: int) -> int:
        """Return the offset of a free piece."""
        size = _round_up(size)
        at = 0
        for start, stop in self._used:
            if start - at >= size:
                break
            at = max(at, stop)
        self._used.append((at, at + size))
        self._used.sort()
        self.size = max(self.size, at + size)
        return at

    def give_back(self, at: int) -> None:
        """Free the piece at an offset."""
        self._used = [piece for piece in self._used if piece[0] != at]


class Constants:
    """Collects arrays in one block and tells where each lies."""

    def __init__(self) -> None:
        self._pieces: list[NDArray[Any]] = []
        self._size = 0

    def add(self, array: NDArray[Any]) -> int:
        """Append an array; return its offset."""
        at = self._size
        self._pieces.append(array)
        self._size = _round_up(at + array.nbytes)
        return at

    def block(self) -> NDArray[np.uint8]:
        """All arrays in one aligned block."""
        block = aligned(self._size)
        at = 0
        for piece in self._pieces:
            block[at : at + piece.nbytes] = np.ascontiguousarray(piece).view(np.uint8).ravel()
            at = _round_up(at + piece.nbytes)
        return block


def aligned(size: int) -> NDArray[np.uint8]:
    """Zeroed memory that starts at a cache line, so that no vector load touches two."""
    raw = np.zeros(size + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size]


@dataclass
class Program:
    """Steps for one input size and one set of outputs, and the memory that they need."""

    names: list[str]
    steps: NDArray[np.void]
    tail: NDArray[np.void]
    tail_names: list[str]
    arena_bytes: int
    scratch_bytes: int
    batch_bytes: int
    tables: NDArray[np.uint8]
    outputs: list[tuple[str, Shape]]
    input_bytes: int
    results: dict[str, str]


class PackedWeights:
    """All weights of a plan in one block."""

    def __init__(self, plan: Plan, weights: Weights) -> None:
        constants = Constants()
        self.places: dict[str, int] = {}
        for name, layer, _ in plan.parts():
            if f"{name}/kernel" not in weights:
                continue
            kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
            packed = (
                packing.pack_filters(kernel)
                if isinstance(layer, Depthwise)
                else packing.pack_matrix(kernel.reshape(-1, kernel.shape[-1]))
            )
            self.places[f"{name}/kernel"] = steps.reference(steps.WEIGHTS, constants.add(packed))
            self.places[f"{name}/bias"] = steps.reference(steps.WEIGHTS, constants.add(packing.pack_bias(bias)))
        self.block = constants.block()

    def of(self, name: str) -> tuple[int, int]:
        """Places of kernel and bias."""
        return self.places[f"{name}/kernel"], self.places[f"{name}/bias"]


class Lowering:
    """Turns one schedule into a program for one input size."""

    def __init__(self, plan: Plan, packed: PackedWeights, schedule: Schedule, height: int, width: int, n_threads: int) -> None:
        self.packed = packed
        self.schedule = schedule
        self.n_threads = n_threads
        self.arena, self.batch, self.tables = Heap(), Heap(), Constants()
        self.scratch_bytes = 0
        self.zero_bytes = 0
        self.steps: list[NDArray[np.void]] = []
        self.tail: list[NDArray[np.void]] = []
        self.names: list[str] = []
        self.tail_names: list[str] = []
        pixel = plan.channels * FLOAT_BYTES
        self.values = {IMAGE: Value(steps.reference(steps.INPUT, 0), pixel, height, width, plan.channels)}
        self.wanted = {node: i for i, node in enumerate(dict.fromkeys(schedule.results.values()))}
        self.shapes: dict[str, Shape] = {IMAGE: (height, width, plan.channels)}
        self.plan = plan

    def run(self) -> Program:
        """Lower all nodes."""
        nodes = list(self.schedule.nodes)
        last_uses = self.schedule.last_uses()
        at = 0
        while at < len(nodes):
            fused = self._fuse_first(nodes, at)
            if not fused:
                self._lower(nodes[at])
            at += 2 if fused else 1
            self._finish(nodes[at - 1], at - 1, last_uses)
        # One row of zeros serves all steps; it lies among the constants, so that nothing writes to it.
        zeros = steps.reference(steps.TABLES, self.tables.add(np.zeros(self.zero_bytes, np.uint8)))
        for step in self.steps:
            step["zeros"] = zeros
        # In the tail, images take the place of pixels: from one to the next is the whole batch entry of an image.
        for step in self.tail:
            for end in ("source", "target"):
                if step[end] >> 48 == steps.BATCH:
                    step[f"{end}_step"] = self.batch.size
        outputs = [(node, self.shapes[node]) for node in self.wanted]
        height, width, channels = self.shapes[IMAGE]
        empty = np.zeros(0, steps.STEP)
        return Program(
            names=self.names,
            steps=np.array(self.steps, steps.STEP) if self.steps else empty,
            tail=np.array(self.tail, steps.STEP) if self.tail else empty,
            tail_names=self.tail_names,
            arena_bytes=self.arena.size,
            scratch_bytes=self.scratch_bytes,
            batch_bytes=self.batch.size,
            tables=self.tables.block(),
            outputs=outputs,
            results=self.schedule.results,
            input_bytes=height * width * channels * FLOAT_BYTES,
        )

    # --- values ------------------------------------------------------------------------------------------------------

    def _new(self, name: str, shape: Shape, *, batched: bool = False) -> Value:
        height, width, channels = shape if len(shape) == 3 else (1, 1, *shape)
        step = vectors().count(channels) * vectors().lanes * FLOAT_BYTES
        heap, buffer = (self.batch, steps.BATCH) if batched else (self.arena, steps.ARENA)
        value = Value(steps.reference(buffer, heap.take(height * width * step)), step, height, width, channels)
        self.values[name] = value
        self.shapes[name] = shape
        return value

    def _finish(self, node: Node, at: int, last_uses: Mapping[str, int]) -> None:
        """Copy a result that somebody wants, and free the memory of maps that nobody reads any more."""
        if node.name in self.wanted:
            self._copy_out(node.name)
        for name in (*node.inputs, node.name):
            value = self.values.get(name)
            if value is not None and last_uses.get(name, -1) <= at and value.place >> 48 == steps.ARENA:
                self.arena.give_back(value.place)

    def _copy_out(self, name: str) -> None:
        value = self.values[name]
        target = Value(steps.reference(steps.OUTPUT + self.wanted[name], 0), value.channels * FLOAT_BYTES, *value[2:])
        self._emit(name, _copy(value, target), batched=self._is_batched(value))

    def _is_batched(self, value: Value) -> bool:
        return value.place >> 48 == steps.BATCH

    def _emit(self, name: str, fields: Mapping[str, Any], *, batched: bool = False) -> None:
        step = np.zeros((), steps.STEP)
        step["residual"] = steps.NOTHING
        for key, value in fields.items():
            step[key] = value
        (self.tail if batched else self.steps).append(step)
        (self.tail_names if batched else self.names).append(name)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def _lower(self, node: Node) -> None:
        inputs = [self.values[name] for name in node.inputs]
        shape = node.layer.output_shape(*(self.shapes[name] for name in node.inputs))
        layer = node.layer
        if isinstance(layer, InvertedResidual):
            self._block(node, layer, None)
        elif isinstance(layer, Conv):
            self._conv(node, layer, inputs[0], shape)
        elif isinstance(layer, Depthwise):
            self._depthwise(node, layer, inputs[0], shape)
        elif isinstance(layer, Dense):
            self._dense(node, inputs[0], shape)
        elif isinstance(layer, GlobalAveragePool):
            source = inputs[0]
            target = self._new(node.name, shape, batched=not layer.keep_dims)
            self._emit(node.name, _pool(source, target, (source.height, source.width), 1))
        elif isinstance(layer, AveragePool):
            target = self._new(node.name, shape)
            self._emit(node.name, _pool(inputs[0], target, (layer.window, layer.window), layer.stride))
        elif isinstance(layer, Add):
            target = self._new(node.name, shape)
            self._emit(node.name, {**_maps(inputs[0], target), "operation": steps.ADD, "residual": inputs[1].place})
        elif isinstance(layer, Concat):
            self._concat(node, inputs, shape)
        else:
            self._resize(node, layer, inputs[0], shape)

    def _conv(self, node: Node, layer: Conv, source: Value, shape: Shape) -> None:
        target = self._new(node.name, shape)
        if layer.kernel == 1 and layer.stride == 1:
            self._emit(node.name, {**_maps(source, target), **self._pointwise(node.name, layer, source), "operation": steps.POINTWISE})
            return
        rows = max(1, min(target.height, -(-16 // target.width)))
        staged = self._stage_bytes(layer, source, target, rows)
        self.scratch_bytes = max(self.scratch_bytes, staged)
        self._emit(
            node.name,
            {
                **_maps(source, target),
                **self._windowed(node.name, layer, source),
                "operation": steps.CONV,
                "rows": rows,
                "staged": steps.reference(steps.SCRATCH, 0),
            },
        )

    def _stage_bytes(self, layer: Conv, source: Value, target: Value, rows: int) -> int:
        columns = (target.width - 1) * layer.stride + layer.kernel
        return _round_up(columns * source.channels * FLOAT_BYTES * ((rows - 1) * layer.stride + layer.kernel))

    def _pointwise(self, name: str, layer: Conv | Dense, source: Value) -> dict[str, Any]:
        kernel, bias = self.packed.of(name)
        filters = layer.filters if isinstance(layer, Conv) else layer.units
        clip = activation(layer.activation).clip if isinstance(layer, Conv) else (-np.inf, np.inf)
        return {"weights": kernel, "bias": bias, "vectors": vectors().count(filters),
                "half": packing.has_half(filters), "low": clip[0], "high": clip[1]}

    def _windowed(self, name: str, layer: Conv, source: Value) -> dict[str, Any]:
        geometry = layer.geometry(source.height, source.width)
        return {
            **self._pointwise(name, layer, source),
            "kernel": layer.kernel,
            "conv_width": layer.output_shape((source.height, source.width, source.channels))[1],
            "stride": geometry.stride,
            "top": geometry.padding[0][0],
            "left": geometry.padding[1][0],
        }

    def _dense(self, node: Node, source: Value, shape: Shape) -> None:
        batched = self._is_batched(source)
        target = self._new(node.name, shape, batched=batched)
        fields = {**_maps(source, target), **self._pointwise(node.name, node.layer, source)}
        fields["operation"] = steps.DENSE if source.height * source.width == 1 else steps.POINTWISE
        self._emit(node.name, fields, batched=batched)

    def _concat(self, node: Node, inputs: Sequence[Value], shape: Shape) -> None:
        target = self._new(node.name, shape)
        at = 0
        for source in inputs:
            self._emit(node.name, _copy(source, target._replace(place=target.place + at)))
            at += source.channels * FLOAT_BYTES

    def _resize(self, node: Node, layer: ResizeLike, source: Value, shape: Shape) -> None:
        target = self._new(node.name, shape)
        table = [
            self._table(source.width, target.width, layer, source.step),
            self._table(source.height, target.height, layer, source.step * source.width),
        ]
        self._emit(
            node.name,
            {**_maps(source, target), "operation": steps.RESIZE, "vectors": source.vectors, "weights": table[0], "bias": table[1]},
        )

    def _table(self, size: int, out_size: int, layer: ResizeLike, step: int) -> int:
        found = samples(size, out_size, layer.variant)
        table = np.empty(out_size, SAMPLE)
        table["lower"], table["upper"], table["weight"] = found.lower * step, found.upper * step, found.weight
        return steps.reference(steps.TABLES, self.tables.add(table))

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _fuse_first(self, nodes: Sequence[Node], at: int) -> bool:
        """Fuse the network's first convolution with a block that has no expansion of its own."""
        node = nodes[at]
        if not (isinstance(node.layer, Conv) and node.layer.kernel > 1) or node.name in self.wanted or at + 1 == len(nodes):
            return False
        readers = [other for other in nodes if node.name in other.inputs]
        block = nodes[at + 1]
        if readers != [block] or not isinstance(block.layer, InvertedResidual) or block.layer.expansion or block.layer.residual:
            return False
        self.shapes[node.name] = node.layer.output_shape(*(self.shapes[name] for name in node.inputs))
        self._block(block, block.layer, node)
        return True

    def _block(self, node: Node, layer: InvertedResidual, first: Node | None) -> None:
        parts = {part.name: part.layer for part in parts_of(node)}
        depthwise = layer.parts()["depthwise"]
        assert isinstance(depthwise, Depthwise)
        source = self.values[(first or node).inputs[0]]
        if first is not None:
            wide_shape = self.shapes[first.name]
            producer = {**self._windowed(first.name, first.layer, source), "producer": steps.FROM_CONV}
        elif layer.expansion is not None:
            expand = layer.parts()["expand"]
            wide_shape = (source.height, source.width, layer.expansion)
            producer = {**self._pointwise(f"{node.name}_expand", expand, source), "producer": steps.FROM_POINTWISE}
        else:
            wide_shape = (source.height, source.width, source.channels)
            producer = {"producer": steps.FROM_COPY, "vectors": source.vectors}
        filtered_shape = depthwise.output_shape(wide_shape)
        self.shapes[node.name] = (*filtered_shape[:2], layer.filters)
        target = self._new(node.name, self.shapes[node.name])
        residual = source.place if layer.residual else steps.NOTHING
        project, project_bias = self.packed.of(f"{node.name}_project")
        common = {**producer, **self._filter(f"{node.name}_depthwise", depthwise, wide_shape)}
        stage = (first.layer, source) if first is not None else None
        if self._splits_by_panels(filtered_shape):
            filtered = self._new(f"{node.name}_depthwise", filtered_shape)
            self._emit(node.name, {**_maps(source, filtered), **common, **self._strips(depthwise, wide_shape, filtered_shape, stage, filtered), "by_panels": 1})
            clip = (-np.inf, np.inf)
            self._emit(node.name, {**_maps(filtered, target), "operation": steps.POINTWISE, "weights": project, "bias": project_bias,
                                   "vectors": target.vectors, "half": packing.has_half(target.channels), "low": clip[0], "high": clip[1], "residual": residual})
            self.arena.give_back(filtered.place)
            return
        self._emit(
            node.name,
            {
                **_maps(source, target),
                **common,
                **self._strips(depthwise, wide_shape, filtered_shape, stage, None),
                "project_vectors": target.vectors,
                "project_half": packing.has_half(target.channels),
                "project": project,
                "project_bias": project_bias,
                "residual": residual,
            },
        )

    def _splits_by_panels(self, shape: Shape) -> bool:
        return self.n_threads > 1 and shape[0] <= 14

    def _filter(self, name: str, layer: Depthwise, shape: Shape) -> dict[str, Any]:
        geometry = layer.geometry(*shape[:2])
        kernel, bias = self.packed.of(name)
        low, high = activation(layer.activation).clip
        return {
            "operation": steps.FILTER,
            "wide_height": shape[0], "wide_width": shape[1], "wide_channels": shape[2],
            "filter_stride": geometry.stride,
            "filter_dilation": geometry.dilation,
            "filter_top": geometry.padding[0][0],
            "filter_left": geometry.padding[1][0],
            "filters": kernel, "filter_bias": bias, "filter_low": low, "filter_high": high,
        }  # fmt: skip

    def _strips(
        self, layer: Depthwise, wide: Shape, filtered: Shape, stage: tuple[Conv, Value] | None, target: Value | None
    ) -> dict[str, Any]:
        """Choose how many output rows are computed at a time, and lay out SCRATCH for them."""
        pixel = vectors().lanes * FLOAT_BYTES
        count = vectors().count(wide[2])
        reach = 2 * layer.dilation + 1
        # Narrow blocks cost the columns that two of them share, so columns are cut only where few rows would fit.
        blocks = 1
        while self._ring_bytes(layer, reach, -(-filtered[1] // blocks), 1) > _RING_BYTES and filtered[1] // blocks > 28:
            blocks += 1
        columns = -(-filtered[1] // blocks)
        turn_rows = 1
        while self._ring_bytes(layer, reach, columns, turn_rows + 1) <= _RING_BYTES and turn_rows < filtered[0]:
            turn_rows += 1
        filtered_row = filtered[1] * count * pixel
        rows = filtered[0] if target is not None else max(turn_rows, min(filtered[0], _STRIP_BYTES // filtered_row))
        rows = -(-filtered[0] // -(-filtered[0] // rows))
        turn_rows = min(turn_rows, rows)
        ring_rows = min((turn_rows - 1) * layer.stride + reach, wide[0])
        ring_columns = (columns - 1) * layer.stride + reach
        self.zero_bytes = max(self.zero_bytes, ring_columns * 3 * pixel)
        ring, at = 0, _round_up(ring_rows * ring_columns * count * blocks * pixel)
        staged = at
        if stage is not None:
            conv, source = stage
            at += self._stage_bytes(conv, source, Value(0, 0, *wide), (rows - 1) * layer.stride + reach)
        place = steps.reference(steps.SCRATCH, at)
        if target is None:
            at += rows * filtered_row
        self.scratch_bytes = max(self.scratch_bytes, at)
        return {
            "rows": rows, "columns": columns, "turn_rows": turn_rows,
            "ring": steps.reference(steps.SCRATCH, ring), "ring_rows": ring_rows, "ring_columns": ring_columns,
            "staged": steps.reference(steps.SCRATCH, staged),
            "filtered": place if target is None else target.place,
            "filtered_step": count * pixel,
            "out_height": filtered[0], "out_width": filtered[1],
        }  # fmt: skip

    def _ring_bytes(self, layer: Depthwise, reach: int, columns: int, rows: int) -> int:
        return ((rows - 1) * layer.stride + reach) * ((columns - 1) * layer.stride + reach) * 2 * vectors().lanes * FLOAT_BYTES

    def _depthwise(self, node: Node, layer: Depthwise, source: Value, shape: Shape) -> None:
        target = self._new(node.name, shape)
        wide = (source.height, source.width, source.channels)
        self._emit(
            node.name,
            {
                **_maps(source, target),
                **self._filter(node.name, layer, wide),
                **self._strips(layer, wide, shape, None, target),
                "producer": steps.FROM_COPY,
                "vectors": source.vectors,
            },
        )


def _maps(source: Value, target: Value) -> dict[str, Any]:
    return {
        "source": source.place, "source_step": source.step,
        "height": source.height, "width": source.width, "channels": source.channels,
        "target": target.place, "target_step": target.step,
        "out_height": target.height, "out_width": target.width, "vectors": target.vectors,
    }  # fmt: skip


def _copy(source: Value, target: Value) -> dict[str, Any]:
    return {**_maps(source, target), "operation": steps.COPY}


def _pool(source: Value, target: Value, window: tuple[int, int], stride: int) -> dict[str, Any]:
    return {
        **_maps(source, target),
        "operation": steps.POOL,
        "kernel_height": window[0],
        "kernel_width": window[1],
        "stride": stride,
    }


class NumbaBackend:
    """Compiled kernels, in float32."""

    name = "numba"

    def compile(self, plan: Plan, weights: Weights, n_threads: int | None = None) -> NumbaExecutable:
        """Pack the weights of `plan`."""
        return NumbaExecutable(plan, weights, n_threads or 1)


class NumbaExecutable:
    """A plan with packed weights, and a workspace that is reused."""

    def __init__(self, plan: Plan, weights: Weights, n_threads: int) -> None:
        self.plan = plan
        self.n_threads = n_threads
        self._packed = PackedWeights(plan, weights)
        self._programs: dict[Any, Program] = {}
        self._lock = threading.Lock()
        self._memory = aligned(0)

    def program(self, shape: Shape, outputs: Sequence[str]) -> Program:
        key = (shape, tuple(outputs))
        if key not in self._programs:
            schedule = self.plan.schedule(outputs)
            self._programs[key] = Lowering(self.plan, self._packed, schedule, *shape[:2], self.n_threads).run()
        return self._programs[key]

    def __call__(self, x: Array, outputs: Sequence[str]) -> dict[str, Array]:
        """Run on `x` (N, H, W, C) as far as `outputs` need."""
        with self._lock:
            found = self.program(x.shape[1:], outputs)
            return self._run(found, x, outputs)

    def prepare(self, found: Program, x: Array) -> tuple[Any, ...]:
        batch = len(x)
        results = [np.empty((batch, *shape), np.float32) for _, shape in found.outputs]
        own = _round_up(found.arena_bytes) + _round_up(found.scratch_bytes)
        needed = own * self.n_threads + batch * found.batch_bytes
        if self._memory.nbytes < needed:
            self._memory = aligned(needed)
        start = self._memory.ctypes.data
        buffers = np.zeros((self.n_threads, steps.OUTPUT + len(results)), np.int64)
        strides = np.zeros(buffers.shape[1], np.int64)
        buffers[:, steps.ARENA] = start + own * np.arange(self.n_threads)
        buffers[:, steps.SCRATCH] = buffers[:, steps.ARENA] + _round_up(found.arena_bytes)
        buffers[:, steps.BATCH], strides[steps.BATCH] = start + own * self.n_threads, found.batch_bytes
        buffers[:, steps.WEIGHTS] = self._packed.block.ctypes.data
        buffers[:, steps.TABLES] = found.tables.ctypes.data
        buffers[:, steps.INPUT], strides[steps.INPUT] = x.ctypes.data, found.input_bytes
        for i, result in enumerate(results):
            buffers[:, steps.OUTPUT + i], strides[steps.OUTPUT + i] = result.ctypes.data, result[:1].nbytes
        tail = found.tail.copy()
        tail["height"] = batch
        return results, (found.steps, tail, buffers, strides, batch)

    def _run(self, found: Program, x: Array, outputs: Sequence[str]) -> dict[str, Array]:
        x = np.ascontiguousarray(x, np.float32)
        results, arguments = self.prepare(found, x)
        with workers(self.n_threads) as crew:
            program.run_on_all(crew, *arguments, crew)
        values = {name: result for (name, _), result in zip(found.outputs, results)}
        return {name: values[node] for name, node in found.results.items()}
