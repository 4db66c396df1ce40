"""TFLite files; here those of quantized networks, which LiteRT runs to the same bits.

Every part of the plan becomes one operator; the network's `Interface` says what the file takes and what it ends in.
Schema: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from npmnv2.errors import ArgumentError
from npmnv2.files import write_atomically
from npmnv2.kernels import TensorQuantization
from npmnv2.network.layers import (
    Add,
    AveragePool,
    Concat,
    Conv,
    Dense,
    Depthwise,
    GlobalAveragePool,
    ResizeLike,
    Shape,
)
from npmnv2.network.plan import IMAGE, Part, Plan
from npmnv2.network.quantization import (
    ArgMax,
    Dequantize,
    Interface,
    Quantization,
    Requantize,
    Reshape,
    Resize,
    Softmax,
    Step,
    value_parts,
)
from npmnv2.weights.assemble import plan_for
from npmnv2.weights.checkpoint import Checkpoint

from .flatbuffer_writer import Scalar, Table
from .tflite_float_writer import float_tflite_bytes
from .tflite_graph import TYPES, Graph, convolution, explicit_padding, integer, integers, pool, resize, stored_kernel
from .tflite_metadata import archive, entries


def write(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a network as a TFLite file, of integers if it is quantized, else of float32. Atomic.

    Raises
    ------
    ArgumentError
        If the network is quantized and has no interface.
    WeightsError
        If it has a layer or an activation that is not written.
    OSError
    """
    data = tflite_bytes(checkpoint)
    with write_atomically(Path(path)) as temporary:
        temporary.write_bytes(data)


def tflite_bytes(checkpoint: Checkpoint, every_value: bool = False) -> bytes:
    """The bytes of `write`'s file; with `every_value` of one that returns the result of every part instead."""
    quantization = checkpoint.quantization
    if quantization is None:
        return float_tflite_bytes(checkpoint, every_value)
    if quantization.interface is None or checkpoint.config is None:
        raise ArgumentError("checkpoint must have an interface to be written as a quantized TFLite file")
    if checkpoint.task == "detection":
        raise ArgumentError("checkpoint must not be a detector in integers: TFLite files of these are only read")
    plan = plan_for(checkpoint.config, checkpoint.weights)
    graph = _Graph(plan, checkpoint.weights, quantization, quantization.interface)
    return graph.file(checkpoint, every_value) + archive(checkpoint)


@dataclass
class _Graph:
    """A TFLite graph in the making."""

    plan: Plan
    weights: dict[str, Any]
    quantization: Quantization
    interface: Interface
    graph: Graph = field(default_factory=Graph)
    values: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def file(self, checkpoint: Checkpoint, every_value: bool) -> bytes:
        """Build everything."""
        _, height, width, channels = self.interface.shape
        self.shapes = self.plan.shapes(height, width)
        first = self._image((1, height, width, channels))
        for part in value_parts(self.plan):
            self.values[part.name] = _PARTS[type(part.layer)](self, part)
        last, meaning = self.values[part.name], self.quantization.values[part.name]
        shape = (1, *((1, 1) if len(self.shapes[part.name]) == 1 else ()), *self.shapes[part.name])
        names = [part.name for part in value_parts(self.plan)] if every_value else [part.name]
        for number, step in enumerate(() if every_value else self.interface.steps):
            last, meaning, shape = self._step(f"output_{number}", step, last, meaning, shape)
        ends = [self.values[name] for name in names] if every_value else [last]
        return self.graph.file([first], ends, entries(checkpoint, names))

    # --- tensors and operators ---------------------------------------------------------------------------------------

    def _computed(self, name: str, shape: Sequence[int], q: TensorQuantization) -> int:
        return self.graph.tensor(name, shape, q.dtype, _scales(q.scale, q.zero_point))

    def _map(self, part: Part, shape: Shape | None = None) -> int:
        """The tensor of a part's result; after global pooling a map of one pixel."""
        shape = self.shapes[part.name] if shape is None else shape
        shape = (1, 1, *shape) if len(shape) == 1 else shape
        return self._computed(part.name, (1, *shape), self.quantization.values[part.name])

    # --- from the image to the last value ----------------------------------------------------------------------------

    def _image(self, shape: Shape) -> int:
        image, given = self.quantization.values[IMAGE], self.interface.input
        if given == image:
            self.values[IMAGE] = self._computed(IMAGE, shape, image)
            return self.values[IMAGE]
        first = self.graph.tensor("input", shape, "float32") if given is None else self._computed("input", shape, given)
        self.values[IMAGE] = self.graph.operator("QUANTIZE", [first], self._computed(IMAGE, shape, image))
        return first

    def _convolution(self, part: Part) -> int:
        layer, name = part.layer, part.name
        assert isinstance(layer, (Conv, Depthwise, Dense))
        source, filters, output = self.quantization.of_layer(part)
        kernel = self.weights[f"{name}/kernel"]
        axis = 3 if isinstance(layer, Depthwise) else 0
        stored = stored_kernel(layer, kernel)
        unit = (np.float32(source.scale[0]) * filters.scales).tolist()
        bias = self.weights[f"{name}/bias"]
        inputs = [
            self.values[part.inputs[0]],
            self.graph.tensor(
                f"{name}/kernel",
                stored.shape,
                filters.dtype,
                _scales(filters.scale, filters.zero_point, axis if len(filters.scale) > 1 else 0),
                stored,
            ),
            self.graph.tensor(f"{name}/bias", bias.shape, "int32", _scales(unit, 0), bias),
        ]
        padding = None
        if isinstance(layer, (Conv, Depthwise)):
            padding = explicit_padding(layer, self.shapes[part.inputs[0]])
        if padding is not None:
            inputs[0] = self._padded(part, *padding)
        kind, options = convolution(layer, output.activation, padding is not None)
        return self.graph.operator(kind, inputs, self._map(part), options)

    def _padded(self, part: Part, pads: list[tuple[int, int]], shape: Shape) -> int:
        """The input of a convolution behind a PAD."""
        inputs = [self.values[part.inputs[0]], self.graph.constant(f"{part.name}/pads", pads)]
        target = self._computed(f"{part.name}/padded", (1, *shape), self.quantization.values[part.inputs[0]])
        return self.graph.operator("PAD", inputs, target)

    def _add(self, part: Part) -> int:
        inputs = [self.values[name] for name in part.inputs]
        return self.graph.operator("ADD", inputs, self._map(part), {0: Scalar("<b", 0)})

    def _concat(self, part: Part) -> int:
        inputs = [self.values[name] for name in part.inputs]
        return self.graph.operator("CONCATENATION", inputs, self._map(part), {0: integer(3), 1: Scalar("<b", 0)})

    def _global_pool(self, part: Part) -> int:
        source, channels = self.values[part.inputs[0]], self.shapes[part.name][-1]
        target = self._map(part, (1, 1, channels))
        if self.quantization.pooling == "mean":
            axes = self.graph.constant(f"{part.name}/axes", [1, 2])
            return self.graph.operator("MEAN", [source, axes], target, {0: Scalar("<?", True)})
        height, width, _ = self.shapes[part.inputs[0]]
        return self.graph.operator("AVERAGE_POOL_2D", [source], target, pool(height, width, 1))

    def _average_pool(self, part: Part) -> int:
        layer = part.layer
        assert isinstance(layer, AveragePool)
        options = pool(layer.window, layer.window, layer.stride)
        return self.graph.operator("AVERAGE_POOL_2D", [self.values[part.inputs[0]]], self._map(part), options)

    def _resize_like(self, part: Part) -> int:
        layer = part.layer
        assert isinstance(layer, ResizeLike)
        source, output = self.quantization.values[part.inputs[0]], self.quantization.values[part.name]
        shape = self.shapes[part.name]
        resized = self._resized(
            part.name, self.values[part.inputs[0]], source, Resize((shape[0], shape[1]), layer.variant), shape
        )
        if source == output:
            return resized
        return self.graph.operator("QUANTIZE", [resized], self._map(part))

    def _resized(self, name: str, number: int, q: TensorQuantization, step: Resize, shape: Shape) -> int:
        size = self.graph.constant(f"{name}/size", step.size)
        target = self._computed(f"{name}/resized", (1, *step.size, shape[-1]), q)
        return self.graph.operator("RESIZE_BILINEAR", [number, size], target, resize(step.variant))

    # --- after the last value ----------------------------------------------------------------------------------------

    def _step(
        self, name: str, step: Step, number: int, q: TensorQuantization, shape: Shape
    ) -> tuple[int, TensorQuantization, Shape]:
        """The tensor after one step of the interface, its quantization and its shape."""
        if isinstance(step, Softmax):
            made = self._computed(name, shape, step.output)
            return self.graph.operator("SOFTMAX", [number], made, {0: Scalar("<f", step.beta)}), step.output, shape
        if isinstance(step, Requantize):
            return (
                self.graph.operator("QUANTIZE", [number], self._computed(name, shape, step.output)),
                step.output,
                shape,
            )
        if isinstance(step, Dequantize):
            return self.graph.operator("DEQUANTIZE", [number], self.graph.tensor(name, shape, "float32")), q, shape
        if isinstance(step, Resize):
            return self._resized(name, number, q, step, shape), q, (1, *step.size, shape[-1])
        if isinstance(step, ArgMax):
            made = self.graph.tensor(name, shape[:-1], step.dtype)
            axis = self.graph.constant(f"{name}/axis", len(shape) - 1)
            options = {0: Scalar("<b", TYPES[step.dtype])}
            return self.graph.operator("ARG_MAX", [number, axis], made, options), q, shape[:-1]
        assert isinstance(step, Reshape)
        sizes = self.graph.constant(f"{name}/shape", step.shape)
        made = self._computed(name, step.shape, q)
        return self.graph.operator("RESHAPE", [number, sizes], made, {0: integers(step.shape)}), q, step.shape


def _scales(scale: Sequence[float], zero_point: int, axis: int = 0) -> Table:
    zero_points = np.full(len(scale), zero_point, np.int64)
    return Table({2: np.array(scale, np.float32), 3: zero_points, 6: integer(axis)})


_PARTS: dict[type[Any], Callable[[_Graph, Part], int]] = {
    Conv: _Graph._convolution,
    Depthwise: _Graph._convolution,
    Dense: _Graph._convolution,
    Add: _Graph._add,
    Concat: _Graph._concat,
    GlobalAveragePool: _Graph._global_pool,
    AveragePool: _Graph._average_pool,
    ResizeLike: _Graph._resize_like,
}
