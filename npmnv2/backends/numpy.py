"""The NumPy backend: the definition, one loop that calls one kernel after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from npmnv2.backends.interface import Weights
from npmnv2.kernels import (
    Array,
    add,
    average_pool,
    concat,
    concat_rows,
    conv,
    dense,
    depthwise,
    global_average_pool,
    pointwise,
    resize_bilinear,
)
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
    SimpleLayer,
)
from npmnv2.network.plan import IMAGE, Node, Part, Plan, multiply_adds, parts_of
from npmnv2.results.profile import Timing


class NumpyBackend:
    """NumPy alone, in float32 or float64."""

    name = "numpy"

    def compile(self, plan: Plan, weights: Weights, n_threads: int | None = None) -> NumpyExecutable:
        """Prepare `plan`. NumPy's matrix product decides on threads by itself."""
        return NumpyExecutable(plan, dict(weights))


class NumpyExecutable:
    """Run a plan node by node."""

    def __init__(self, plan: Plan, weights: Weights) -> None:
        self.plan = plan
        self.weights = weights

    def __call__(self, x: Array, outputs: Sequence[str]) -> dict[str, Array]:
        """Run on `x` (N, H, W, C) as far as `outputs` need."""
        return self._run(x, outputs, lambda node, inputs: self.evaluate(node, *inputs))

    def profile(self, x: Array, outputs: Sequence[str]) -> list[Timing]:
        """Run once and measure the time of every node."""
        shapes = self.plan.schedule(outputs).shapes(x.shape[1:])
        timings: list[Timing] = []

        def timed(node: Node, inputs: tuple[Array, ...]) -> Array:
            start = time.perf_counter()
            value: Array = self.evaluate(node, *inputs)
            seconds = time.perf_counter() - start
            timings.append(Timing(node.name, seconds, len(x) * multiply_adds(node, shapes)))
            return value

        self._run(x, outputs, timed)
        return timings

    def _run(
        self, x: Array, outputs: Sequence[str], execute: Callable[[Node, tuple[Array, ...]], Array]
    ) -> dict[str, Array]:
        """Evaluate the schedule in order, freeing every value after its last use."""
        schedule = self.plan.schedule(outputs)
        last_uses = schedule.last_uses()
        kept = set(schedule.results.values())
        values: dict[str, Array] = {IMAGE: x}
        for position, node in enumerate(schedule.nodes):
            values[node.name] = execute(node, tuple(values[name] for name in node.inputs))
            for name in node.inputs:
                if last_uses[name] == position and name not in kept:
                    values.pop(name, None)
        return {name: values[node] for name, node in schedule.results.items()}

    def evaluate(self, node: Node, *inputs: Any) -> Any:
        """Compute one node of what `compute` takes and returns; a block part by part."""
        given = dict(zip(node.inputs, inputs))
        values = given
        for part in parts_of(node):
            value = self.compute(part, *(values[name] for name in part.inputs))
            # Inside a block only the newest map is needed, and the expanded ones are large.
            values = {**given, part.name: value}
        return value

    def compute(self, part: Part, *inputs: Array) -> Array:
        """Compute one part."""
        return _KERNELS[type(part.layer)](part.layer, self._parameters(part.name), *inputs)

    def _parameters(self, name: str) -> tuple[Array, ...]:
        kernel = self.weights.get(f"{name}/kernel")
        return () if kernel is None else (kernel, self.weights[f"{name}/bias"])


Parameters = tuple[Array, ...]


def _conv(layer: Conv, parameters: Parameters, x: Array) -> Array:
    kernel, bias = parameters
    clip, function = activation(layer.activation)
    if layer.kernel == 1 and layer.stride == 1:
        y = pointwise(x, kernel, bias, clip)
    else:
        y = conv(x, kernel, bias, layer.geometry(*x.shape[1:3]), clip)
    return function(y) if function else y


def _depthwise(layer: Depthwise, parameters: Parameters, x: Array) -> Array:
    kernel, bias = parameters
    clip, function = activation(layer.activation)
    y = depthwise(x, kernel, bias, layer.geometry(*x.shape[1:3]), clip)
    return function(y) if function else y


def _average_pool(layer: AveragePool, _: Parameters, x: Array) -> Array:
    layer.output_shape(x.shape[1:])  # refuses a map smaller than the window
    return average_pool(x, layer.window, layer.stride)


def _global_average_pool(layer: GlobalAveragePool, _: Parameters, x: Array) -> Array:
    pooled = global_average_pool(x)
    return pooled[:, None, None] if layer.keep_dims else pooled


def _resize_like(layer: ResizeLike, _: Parameters, x: Array, target: Array) -> Array:
    return resize_bilinear(x, (target.shape[1], target.shape[2]), layer.variant)


_KERNELS: dict[type[SimpleLayer], Callable[..., Array]] = {
    Conv: _conv,
    Depthwise: _depthwise,
    Add: lambda _, __, x, y: add(x, y),
    Concat: lambda _, __, *maps: concat(*maps),
    ConcatRows: lambda layer, _, *maps: concat_rows(*maps, columns=layer.columns),
    GlobalAveragePool: _global_average_pool,
    AveragePool: _average_pool,
    Dense: lambda _, parameters, x: dense(x, *parameters),
    ResizeLike: _resize_like,
}
