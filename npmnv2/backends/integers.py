"""Quantized networks: in integers, as a runtime does, and in float with fake quantization, as they were trained.

Both run the plan node by node like the NumPy backend, but that compiled kernels run integers too. They take and return
real numbers. Those for integers can also be asked for integers, and for what the interpreter of the network's TFLite
file would return (`IntegerExecutable.invoke`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npmnv2.backends.interface import Executable, Weights
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.errors import ArgumentError, ArgumentTypeError
from npmnv2.kernels import Arithmetic, Array, Integers, TensorQuantization, quantized
from npmnv2.kernels.host.cpus import default_threads
from npmnv2.kernels.host.engine import Engine
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
    SimpleLayer,
)
from npmnv2.network.plan import IMAGE, Part, Plan, parts_of
from npmnv2.network.quantization import (
    ARITHMETICS,
    FAKE_QUANT,
    ArgMax,
    Dequantize,
    Logistic,
    Quantization,
    Requantize,
    Reshape,
    Resize,
    Softmax,
    Step,
    value_parts,
)
from npmnv2.results.profile import Timing


class QuantizedBackend:
    """Quantized networks on NumPy, the reference, or with compiled kernels.

    Parameters
    ----------
    quantization : Quantization
    arithmetic : {"xnnpack", "reference", "fakequant"}
    engine : Engine, optional
        Compiled kernels for this arithmetic; NumPy computes without.

    Raises
    ------
    ValueError
        If there is no such arithmetic.
    """

    def __init__(self, quantization: Quantization, arithmetic: str = "xnnpack", engine: Engine | None = None) -> None:
        if arithmetic not in ARITHMETICS:
            raise ArgumentError(f"arithmetic (={arithmetic!r}) must be one of {', '.join(ARITHMETICS)}")
        self.quantization = quantization
        self.arithmetic = arithmetic
        self.engine = engine
        self.name = "compiled" if engine else "numpy"

    def compile(self, plan: Plan, weights: Weights, n_threads: int | None = None) -> Executable:
        """Prepare `plan` with the integer weights of a file, in canonical layout."""
        arranged = _arranged(plan, weights)
        if self.arithmetic == FAKE_QUANT:
            return FakeQuantExecutable(plan, _dequantized(plan, arranged, self.quantization), self.quantization)
        arithmetic: Arithmetic = "xnnpack" if self.arithmetic == "xnnpack" else "reference"
        if self.engine is None:
            return IntegerExecutable(plan, arranged, self.quantization, arithmetic)
        from npmnv2.backends.compiled_integers import CompiledIntegerExecutable

        return CompiledIntegerExecutable(plan, arranged, self.quantization, default_threads(n_threads), self.engine)


def _arranged(plan: Plan, weights: Weights) -> dict[str, Any]:
    """The weights in the layouts of the kernels: pointwise (Cin, Cout), depthwise (kh, kw, C)."""
    arranged = dict(weights)
    for name, layer, _ in plan.parts():
        if isinstance(layer, Depthwise):
            arranged[f"{name}/kernel"] = weights[f"{name}/kernel"][..., 0]
        elif isinstance(layer, Conv) and layer.kernel == layer.stride == 1:
            arranged[f"{name}/kernel"] = weights[f"{name}/kernel"][0, 0]
    return arranged


def real_weights(plan: Plan, weights: Weights, quantization: Quantization) -> dict[str, Array]:
    """The real numbers that the weights of a quantized network stand for, in the layouts of the kernels."""
    return _dequantized(plan, _arranged(plan, weights), quantization)


def _dequantized(plan: Plan, weights: Weights, quantization: Quantization) -> dict[str, Array]:
    """The real numbers that the weights stand for, in float32."""
    real: dict[str, Array] = {}
    for part in value_parts(plan):
        if isinstance(part.layer, (Conv, Depthwise, Dense)):
            source, filters, _ = quantization.of_layer(part)
            kernel: Any = weights[f"{part.name}/kernel"]
            real[f"{part.name}/kernel"] = quantized.dequantize(kernel, filters)
            bias = weights[f"{part.name}/bias"].astype(np.float64)
            real[f"{part.name}/bias"] = (bias * (source.scale[0] * filters.scales.astype(np.float64))).astype(
                np.float32
            )
    return real


def _restored(plan: Plan, quantization: Quantization, values: dict[str, Array]) -> dict[str, Array]:
    """Values by endpoint or alias as they were before equalization."""
    if not quantization.exponents:
        return values
    # A block's value is that of its last part.
    parts = {node.name: parts_of(node)[-1].name for node in plan.nodes}
    resolved = {name: plan.resolve(name) for name in values}
    return {name: quantization.restored(parts.get(at, at), values[name]) for name, at in resolved.items()}


class FakeQuantExecutable(NumpyExecutable):
    """Run a plan in float32 and round every value to the steps of its quantization."""

    def __init__(self, plan: Plan, weights: Weights, quantization: Quantization) -> None:
        super().__init__(plan, weights)
        self.quantization = quantization
        self.ranges = {name: quantized.FakeQuantRange.from_quantization(q) for name, q in quantization.values.items()}

    def __call__(self, x: Array, outputs: Sequence[str]) -> dict[str, Array]:
        """Run on `x` (N, H, W, C) as far as `outputs` need."""
        values = super().__call__(quantized.fake_quantize(x, self.ranges[IMAGE]), outputs)
        return _restored(self.plan, self.quantization, values)

    def compute(self, part: Part, *inputs: Array) -> Array:
        """Compute one part, and round it."""
        return quantized.fake_quantize(super().compute(part, *inputs), self.ranges[part.name])


class IntegerExecutable(NumpyExecutable):
    """Run a plan in integers."""

    def __init__(self, plan: Plan, weights: Weights, quantization: Quantization, arithmetic: Arithmetic) -> None:
        super().__init__(plan, weights)
        self.quantization = quantization
        self.arithmetic = arithmetic
        # A block's value is that of its last part.
        self.values = dict(quantization.values)
        for node in plan.nodes:
            self.values[node.name] = quantization.values[parts_of(node)[-1].name]

    def __call__(self, x: Array, outputs: Sequence[str]) -> dict[str, Array]:
        """Run on real numbers `x` (N, H, W, C) as far as `outputs` need, and return real numbers."""
        values = self.integers(self._quantized_image(x), outputs)
        real = {name: quantized.dequantize(q, self._value(name)) for name, q in values.items()}
        return _restored(self.plan, self.quantization, real)

    def _value(self, name: str) -> TensorQuantization:
        """The quantization of an endpoint; most are asked for by their own name."""
        return self.values.get(name) or self.values[self.plan.resolve(name)]

    def integers(self, q: Any, outputs: Sequence[str]) -> dict[str, Integers]:
        """Run on the integers of an image (N, H, W, C), and return integers."""
        values: dict[str, Any] = super().__call__(q, outputs)
        return values

    def raw(self, x: Array, outputs: Sequence[str]) -> dict[str, Integers]:
        """Run on real numbers, and return integers."""
        return self.integers(self._quantized_image(x), outputs)

    def profile(self, x: Array, outputs: Sequence[str]) -> list[Timing]:
        """Run once and tell what every node took."""
        return super().profile(self._quantized_image(x), outputs)

    def invoke(self, x: Any, others: Sequence[str] = ()) -> Any:
        """What the interpreter of the network's TFLite file returns for its input.

        With `others`, endpoints whose integers are wanted as well, a tuple.

        Raises
        ------
        ValueError, TypeError
            If the network does not come from a TFLite file, or `x` is not of the file's shape and type.
        """
        interface = self.quantization.interface
        if interface is None:
            raise ArgumentError("invoke needs the interface of a TFLite file, which this model does not come from")
        x, image = np.asarray(x), self.quantization.values[IMAGE]
        dtype = "float32" if interface.input is None else interface.input.dtype
        if x.dtype != dtype:
            raise ArgumentTypeError(f"x must be an array of {dtype}, as the file's input is, got {x.dtype}")
        if x.ndim != 4 or x.shape[1:] != interface.shape[1:]:
            raise ArgumentError(
                f"x must have the file's shape (N, {', '.join(map(str, interface.shape[1:]))}), got {x.shape}"
            )
        q = self._quantized_image(x) if interface.input is None else self._requantize(x, interface.input, image)
        last = self.plan.nodes[-1].name
        values = self.integers(q, [last, *others])
        value = self._follow(interface.steps, values[last], self.values[last])
        return (value, *(values[name] for name in others)) if others else value

    def _follow(self, steps: Sequence[Step], value: Any, meaning: TensorQuantization) -> Any:
        """The value after the steps of the interface."""
        for step in steps:
            value, meaning = self._step(step, value, meaning)
        return value

    def _step(self, step: Step, value: Any, q: TensorQuantization) -> tuple[Any, TensorQuantization]:
        """The value after one step of the interface, and its quantization."""
        if isinstance(step, Softmax):
            return quantized.softmax(value, q, step.output, self.arithmetic, step.beta), step.output
        if isinstance(step, Logistic):
            return quantized.logistic(value, q, step.output), step.output
        if isinstance(step, Requantize):
            return self._requantize(value, q, step.output), step.output
        if isinstance(step, Dequantize):
            return quantized.dequantize(value, q), q
        if isinstance(step, Resize):
            return quantized.resize_bilinear(value, step.size, step.variant, self.arithmetic), q
        if isinstance(step, ArgMax):
            return value.argmax(axis=-1).astype(step.dtype), q
        assert isinstance(step, Reshape)
        return value.reshape(len(value), *step.shape[1:]), q

    def _requantize(self, x: Integers, source: TensorQuantization, output: TensorQuantization) -> Integers:
        return quantized.requantize(x, source, output, self.arithmetic)

    def _quantized_image(self, x: Array) -> Any:
        return quantized.quantize(x, self.quantization.values[IMAGE], self.arithmetic)

    def compute(self, part: Part, *inputs: Any) -> Any:
        """Compute one part."""
        return _KERNELS[type(part.layer)](self, part, *inputs)

    def _convolution(self, part: Part, x: Integers) -> Integers:
        layer, kernel, bias = part.layer, *self._parameters(part.name)
        scales = self.values[part.inputs[0]], self.quantization.kernels[part.name], self.values[part.name]
        compute: Any = quantized.depthwise if isinstance(layer, Depthwise) else quantized.conv
        geometry = layer.geometry(*x.shape[1:3]) if isinstance(layer, (Conv, Depthwise)) else None
        result: Integers = compute(x, kernel, bias, geometry, scales, self.arithmetic)
        return result

    def _add(self, part: Part, x: Integers, y: Integers) -> Integers:
        a, b = (self.values[name] for name in part.inputs)
        return quantized.add(x, y, (a, b, self.values[part.name]), self.arithmetic)

    def _concat(self, part: Part, *maps: Integers) -> Integers:
        return quantized.concat(*maps)

    def _concat_rows(self, part: Part, *maps: Integers) -> Integers:
        assert isinstance(part.layer, ConcatRows)
        sources = [self.values[name] for name in part.inputs]
        return quantized.concat_rows(*maps, columns=part.layer.columns, sources=sources, output=self.values[part.name])

    def _global_average_pool(self, part: Part, x: Integers) -> Integers:
        source, output = self.values[part.inputs[0]], self.values[part.name]
        if self.quantization.pooling == "mean":
            pooled = quantized.mean(x, source, output, self.arithmetic)
        else:
            pooled = quantized.average_pool(x, (x.shape[1], x.shape[2]))[:, 0, 0]
        return pooled[:, None, None] if getattr(part.layer, "keep_dims", False) else pooled

    def _average_pool(self, part: Part, x: Integers) -> Integers:
        assert isinstance(part.layer, AveragePool)
        part.layer.output_shape(x.shape[1:])  # refuses a map smaller than the window
        return quantized.average_pool(x, (part.layer.window, part.layer.window), part.layer.stride)

    def _resize_like(self, part: Part, x: Integers, target: Integers) -> Integers:
        assert isinstance(part.layer, ResizeLike)
        size = (target.shape[1], target.shape[2])
        resized = quantized.resize_bilinear(x, size, part.layer.variant, self.arithmetic)
        return self._requantize(resized, self.values[part.inputs[0]], self.values[part.name])


_KERNELS: dict[type[SimpleLayer], Callable[..., Integers]] = {
    Conv: IntegerExecutable._convolution,
    Depthwise: IntegerExecutable._convolution,
    Dense: IntegerExecutable._convolution,
    Add: IntegerExecutable._add,
    Concat: IntegerExecutable._concat,
    ConcatRows: IntegerExecutable._concat_rows,
    GlobalAveragePool: IntegerExecutable._global_average_pool,
    AveragePool: IntegerExecutable._average_pool,
    ResizeLike: IntegerExecutable._resize_like,
}
