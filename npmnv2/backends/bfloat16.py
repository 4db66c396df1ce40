"""bfloat16 in NumPy: the definition of ``precision="bf16"``, which compiled kernels follow bit for bit.

A layer's result is rounded to bfloat16, but for those that no layer reads any more: logits, scores and boxes.
"""

from __future__ import annotations

from typing import Any

from npmnv2.backends.interface import Weights
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.kernels import Array, add, bfloat16, concat, concat_rows
from npmnv2.network.activations import activation
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
)
from npmnv2.network.plan import IMAGE, Node, Part, Plan


class Bfloat16Backend:
    """NumPy alone, with the arithmetic of a processor that multiplies bfloat16: for tests and comparisons."""

    name = "numpy"

    def compile(self, plan: Plan, weights: Weights, n_threads: int | None = None) -> Bfloat16Executable:
        """Prepare `plan`."""
        return Bfloat16Executable(plan, dict(weights))


def last_values(plan: Plan) -> frozenset[str]:
    """Values that stay float32, since no layer reads them, or none that computes: of products and pools."""
    read = {name for node in plan.nodes if not isinstance(node.layer, ConcatRows) for name in node.inputs}
    return frozenset(node.name for node in plan.nodes if node.name not in read and _may_stay(node))


def _may_stay(node: Node) -> bool:
    layer = node.layer
    if isinstance(layer, Conv):
        return layer.kernel == 1 and layer.stride == 1 and node.inputs != (IMAGE,)
    return isinstance(layer, (Dense, GlobalAveragePool, AveragePool))


class Bfloat16Executable(NumpyExecutable):
    """Run a plan node by node, and round what every layer makes."""

    def __init__(self, plan: Plan, weights: Weights) -> None:
        super().__init__(plan, weights)
        self._exact = last_values(plan)

    def compute(self, part: Part, *inputs: Array) -> Array:
        """Compute one part, in bfloat16 where a layer reads it."""
        value = self._computed(part, *inputs)
        if part.name in self._exact or isinstance(part.layer, ConcatRows):
            return value
        value = bfloat16.round_to_bfloat16(value)
        function = activation(getattr(part.layer, "activation", "linear")).function
        return value if function is None else bfloat16.round_to_bfloat16(function(value))

    def _computed(self, part: Part, *inputs: Array) -> Array:
        """What a layer makes of its inputs, but for a function after it, before it is rounded."""
        layer: Any = part.layer
        x, parameters = inputs[0], self._parameters(part.name)
        if isinstance(layer, (Conv, Depthwise)):
            return self._convolved(part, x, *parameters)
        if isinstance(layer, Dense):
            return bfloat16.pointwise(x, parameters[0], parameters[1])
        if isinstance(layer, AveragePool):
            layer.output_shape(x.shape[1:])  # refuses a map smaller than the window
            return bfloat16.average_pool(x, (layer.window, layer.window), layer.stride)
        if isinstance(layer, GlobalAveragePool):
            pooled = bfloat16.average_pool(x, (x.shape[1], x.shape[2]))
            return pooled if layer.keep_dims else pooled[:, 0, 0]
        if isinstance(layer, ResizeLike):
            return bfloat16.resize_bilinear(x, (inputs[1].shape[1], inputs[1].shape[2]), layer.variant)
        if isinstance(layer, Add):
            return add(*inputs)
        if isinstance(layer, Concat):
            return concat(*inputs)
        return concat_rows(*inputs, columns=layer.columns)

    def _convolved(self, part: Part, x: Array, kernel: Array, bias: Array) -> Array:
        layer: Any = part.layer
        clip = activation(layer.activation).clip
        geometry = layer.geometry(*x.shape[1:3])
        if isinstance(layer, Depthwise):
            return bfloat16.depthwise(x, kernel, bias, geometry, clip)
        if part.inputs == (IMAGE,):
            return bfloat16.image_conv(x, _four_axes(kernel), bias, geometry, clip)
        if layer.kernel == 1 and layer.stride == 1:
            return bfloat16.pointwise(x, kernel, bias, clip)
        return bfloat16.conv(x, _four_axes(kernel), bias, geometry, clip)


def _four_axes(kernel: Array) -> Array:
    """A kernel (kh, kw, Cin, Cout), of a pointwise convolution as well."""
    return kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape)
