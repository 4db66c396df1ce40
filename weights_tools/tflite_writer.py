"""Quantized networks as TFLite files, which LiteRT runs to the same bits.

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
from npmnv2.kernels import Geometry, TensorQuantization, output_size, same_padding
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
from npmnv2.weights.bounds import Array
from npmnv2.weights.checkpoint import Checkpoint

from .flatbuffer_writer import Scalar, Table, flatbuffer

_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "int8": 9}
# Number, version, and kind of options of each operator.
_OPERATORS = {
    "ADD": (0, 2, 11),
    "AVERAGE_POOL_2D": (1, 2, 5),
    "CONCATENATION": (2, 2, 10),
    "CONV_2D": (3, 3, 1),
    "DEPTHWISE_CONV_2D": (4, 3, 2),
    "DEQUANTIZE": (6, 2, 0),
    "RESHAPE": (22, 1, 17),
    "RESIZE_BILINEAR": (23, 3, 15),
    "SOFTMAX": (25, 2, 9),
    "PAD": (34, 2, 0),
    "MEAN": (40, 2, 27),
    "ARG_MAX": (56, 2, 40),
    "QUANTIZE": (114, 2, 0),
}
_FUSED = {"linear": 0, "relu": 1, "relu6": 3}
_SAME, _VALID = 0, 1


def write(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a quantized network as a TFLite file. Atomic.

    Raises
    ------
    ArgumentError
        If the network is not quantized, or has no interface.
    OSError
    """
    data = tflite_bytes(checkpoint)
    with write_atomically(Path(path)) as temporary:
        temporary.write_bytes(data)


def tflite_bytes(checkpoint: Checkpoint, every_value: bool = False) -> bytes:
    """The bytes of `write`'s file; with `every_value` of one that returns the result of every part instead."""
    quantization = checkpoint.quantization
    if quantization is None or quantization.interface is None or checkpoint.config is None:
        raise ArgumentError("checkpoint must be quantized and have an interface to be written as a TFLite file")
    plan = plan_for(checkpoint.config, checkpoint.weights)
    return _Graph(plan, checkpoint.weights, quantization, quantization.interface).file(every_value)


@dataclass
class _Graph:
    """A TFLite graph in the making."""

    plan: Plan
    weights: dict[str, Any]
    quantization: Quantization
    interface: Interface
    tensors: list[Table] = field(default_factory=list)
    operators: list[Table] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    buffers: list[Table] = field(default_factory=lambda: [Table({})])
    values: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def file(self, every_value: bool) -> bytes:
        """Build everything."""
        _, height, width, channels = self.interface.shape
        self.shapes = self.plan.shapes(height, width)
        first = self._image((1, height, width, channels))
        for part in value_parts(self.plan):
            self.values[part.name] = _PARTS[type(part.layer)](self, part)
        last, meaning = self.values[part.name], self.quantization.values[part.name]
        shape = (1, *((1, 1) if len(self.shapes[part.name]) == 1 else ()), *self.shapes[part.name])
        outputs = [self.values[part.name] for part in value_parts(self.plan)]
        for number, step in enumerate(() if every_value else self.interface.steps):
            last, meaning, shape = self._step(f"output_{number}", step, last, meaning, shape)
        ends = outputs if every_value else [last]
        graph = Table({0: self.tensors, 1: _ints([first]), 2: _ints(ends), 3: self.operators, 4: "main"})
        codes = [_code(kind) for kind in self.codes]
        model = Table({0: Scalar("<I", 3), 1: codes, 2: [graph], 3: "npmnv2", 4: self.buffers})
        return flatbuffer(model, b"TFL3")

    # --- tensors and operators ---------------------------------------------------------------------------------------

    def _tensor(
        self, name: str, shape: Sequence[int], dtype: str, scales: Table | None = None, value: Array | None = None
    ) -> int:
        buffer = 0
        if value is not None:
            buffer = len(self.buffers)
            data = np.frombuffer(np.ascontiguousarray(value, np.dtype(dtype).newbyteorder("<")).tobytes(), np.uint8)
            self.buffers.append(Table({0: data}))
        slots = {0: _ints(shape), 1: Scalar("<b", _TYPES[dtype]), 2: Scalar("<I", buffer), 3: name, 4: scales}
        self.tensors.append(Table(slots))
        return len(self.tensors) - 1

    def _computed(self, name: str, shape: Sequence[int], q: TensorQuantization) -> int:
        return self._tensor(name, shape, q.dtype, _scales(q.scale, q.zero_point))

    def _constant(self, name: str, value: Any) -> int:
        array = np.asarray(value, np.int32)
        return self._tensor(name, array.shape, "int32", None, array)

    def _operator(self, kind: str, inputs: Sequence[int], output: int, options: dict[int, Any] | None = None) -> int:
        if kind not in self.codes:
            self.codes.append(kind)
        slots = {0: Scalar("<I", self.codes.index(kind)), 1: _ints(inputs), 2: _ints([output])}
        if options is not None:
            slots |= {3: Scalar("<B", _OPERATORS[kind][2]), 4: Table(options)}
        self.operators.append(Table(slots))
        return output

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
        first = self._tensor("input", shape, "float32") if given is None else self._computed("input", shape, given)
        self.values[IMAGE] = self._operator("QUANTIZE", [first], self._computed(IMAGE, shape, image))
        return first

    def _convolution(self, part: Part) -> int:
        layer, name = part.layer, part.name
        source, filters, output = self.quantization.of_layer(part)
        kernel = self.weights[f"{name}/kernel"]
        axis = 3 if isinstance(layer, Depthwise) else 0
        stored = _stored(layer, kernel)
        unit = (np.float32(source.scale[0]) * filters.scales).tolist()
        bias = self.weights[f"{name}/bias"]
        inputs = [
            self.values[part.inputs[0]],
            self._tensor(
                f"{name}/kernel",
                stored.shape,
                filters.dtype,
                _scales(filters.scale, filters.zero_point, axis if len(filters.scale) > 1 else 0),
                stored,
            ),
            self._tensor(f"{name}/bias", bias.shape, "int32", _scales(unit, 0), bias),
        ]
        options, fused = {0: Scalar("<b", _SAME), 1: _int(1), 2: _int(1)}, Scalar("<b", _FUSED[output.activation])
        if isinstance(layer, (Conv, Depthwise)):
            inputs[0], padding = self._padded(part, inputs[0])
            options = {0: Scalar("<b", padding), 1: _int(layer.stride), 2: _int(layer.stride)}
        dilation = _int(getattr(layer, "dilation", 1))
        if isinstance(layer, Depthwise):
            options |= {3: _int(1), 4: fused, 5: dilation, 6: dilation}
            return self._operator("DEPTHWISE_CONV_2D", inputs, self._map(part), options)
        options |= {3: fused, 4: dilation, 5: dilation}
        return self._operator("CONV_2D", inputs, self._map(part), options)

    def _padded(self, part: Part, source: int) -> tuple[int, int]:
        """The input of a convolution, behind a PAD where it is not padded as TensorFlow's SAME does it."""
        layer, shape = part.layer, self.shapes[part.inputs[0]]
        assert isinstance(layer, (Conv, Depthwise))
        same = tuple(same_padding(size, layer.kernel, layer.stride, layer.dilation) for size in shape[:2])
        geometry: Geometry = layer.geometry(*shape[:2])
        if geometry.padding == same:
            return source, _SAME
        rows, columns = geometry.padding
        padded = (shape[0] + sum(rows), shape[1] + sum(columns), shape[2])
        pads = self._constant(f"{part.name}/pads", [(0, 0), rows, columns, (0, 0)])
        target = self._computed(f"{part.name}/padded", (1, *padded), self.quantization.values[part.inputs[0]])
        assert output_size(padded[0], layer.kernel, layer.stride, layer.dilation, (0, 0)) == self.shapes[part.name][0]
        return self._operator("PAD", [source, pads], target), _VALID

    def _add(self, part: Part) -> int:
        inputs = [self.values[name] for name in part.inputs]
        return self._operator("ADD", inputs, self._map(part), {0: Scalar("<b", 0)})

    def _concat(self, part: Part) -> int:
        inputs = [self.values[name] for name in part.inputs]
        return self._operator("CONCATENATION", inputs, self._map(part), {0: _int(3), 1: Scalar("<b", 0)})

    def _global_pool(self, part: Part) -> int:
        source, channels = self.values[part.inputs[0]], self.shapes[part.name][-1]
        target = self._map(part, (1, 1, channels))
        if self.quantization.pooling == "mean":
            axes = self._constant(f"{part.name}/axes", [1, 2])
            return self._operator("MEAN", [source, axes], target, {0: Scalar("<?", True)})
        height, width, _ = self.shapes[part.inputs[0]]
        return self._operator("AVERAGE_POOL_2D", [source], target, _pool(height, width, 1))

    def _average_pool(self, part: Part) -> int:
        layer = part.layer
        assert isinstance(layer, AveragePool)
        options = _pool(layer.window, layer.window, layer.stride)
        return self._operator("AVERAGE_POOL_2D", [self.values[part.inputs[0]]], self._map(part), options)

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
        return self._operator("QUANTIZE", [resized], self._map(part))

    def _resized(self, name: str, number: int, q: TensorQuantization, step: Resize, shape: Shape) -> int:
        size = self._constant(f"{name}/size", step.size)
        target = self._computed(f"{name}/resized", (1, *step.size, shape[-1]), q)
        aligned, half = (Scalar("<?", step.variant == v) for v in ("tf1_align_corners", "half_pixel"))
        return self._operator("RESIZE_BILINEAR", [number, size], target, {2: aligned, 3: half})

    # --- after the last value ----------------------------------------------------------------------------------------

    def _step(
        self, name: str, step: Step, number: int, q: TensorQuantization, shape: Shape
    ) -> tuple[int, TensorQuantization, Shape]:
        """The tensor after one step of the interface, its quantization and its shape."""
        if isinstance(step, Softmax):
            made = self._computed(name, shape, step.output)
            return self._operator("SOFTMAX", [number], made, {0: Scalar("<f", step.beta)}), step.output, shape
        if isinstance(step, Requantize):
            return self._operator("QUANTIZE", [number], self._computed(name, shape, step.output)), step.output, shape
        if isinstance(step, Dequantize):
            return self._operator("DEQUANTIZE", [number], self._tensor(name, shape, "float32")), q, shape
        if isinstance(step, Resize):
            return self._resized(name, number, q, step, shape), q, (1, *step.size, shape[-1])
        if isinstance(step, ArgMax):
            made = self._tensor(name, shape[:-1], step.dtype)
            axis = self._constant(f"{name}/axis", len(shape) - 1)
            options = {0: Scalar("<b", _TYPES[step.dtype])}
            return self._operator("ARG_MAX", [number, axis], made, options), q, shape[:-1]
        assert isinstance(step, Reshape)
        sizes = self._constant(f"{name}/shape", step.shape)
        made = self._computed(name, step.shape, q)
        return self._operator("RESHAPE", [number, sizes], made, {0: _ints(step.shape)}), q, step.shape


def _stored(layer: Any, kernel: Array) -> Array:
    """A canonical kernel as TFLite stores it: (out, height, width, in), depthwise (1, height, width, channels)."""
    if isinstance(layer, Depthwise):
        return np.ascontiguousarray(kernel[None, ..., 0])
    return np.ascontiguousarray(kernel.T[:, None, None] if isinstance(layer, Dense) else kernel.transpose(3, 0, 1, 2))


def _scales(scale: Sequence[float], zero_point: int, axis: int = 0) -> Table:
    zero_points = np.full(len(scale), zero_point, np.int64)
    return Table({2: np.array(scale, np.float32), 3: zero_points, 6: _int(axis)})


def _pool(height: int, width: int, stride: int) -> dict[int, Any]:
    sizes = {1: _int(stride), 2: _int(stride), 3: _int(width), 4: _int(height)}
    return {0: Scalar("<b", _VALID), **sizes, 5: Scalar("<b", 0)}


def _code(kind: str) -> Table:
    number, version, _ = _OPERATORS[kind]
    return Table({0: Scalar("<b", min(number, 127)), 2: _int(version), 3: _int(number)})


def _int(value: int) -> Scalar:
    return Scalar("<i", value)


def _ints(values: Sequence[int]) -> Array:
    return np.array(values, np.int32)


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
