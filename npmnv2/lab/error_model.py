"""How large float32's rounding errors must be expected to be, layer by layer (derivation: docs/numerics.md).

Two bounds. The worst case of one layer, given its inputs, holds for any order of summation (Higham, *Accuracy and
Stability of Numerical Algorithms*, 2nd edition, section 3.1). For a whole network worst cases multiply to nonsense, so
there variances are propagated: rounding errors are modeled as independent with mean zero, and a sum of n terms then
errs by about ``√n·u`` of its magnitude (Higham and Mary, *A New Approach to Probabilistic Rounding Error Analysis*,
SIAM J. Sci. Comput. 41(5), 2019), as a standard deviation.

bfloat16 has the worst case only: its errors are too large for variances to be propagated to first order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from npmnv2.backends.bfloat16 import last_values
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.kernels import NO_CLIP, Array, conv, dense, depthwise, pointwise
from npmnv2.lab.numerics import gamma
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
from npmnv2.network.plan import IMAGE, Part, Plan, parts_of
from npmnv2.weights.checkpoint import fold_batch_norms

# Half the distance between 1 and the next number of 24 binary digits, and of 8.
UNIT, BFLOAT16_UNIT = 2.0**-24, 2.0**-8
# Standard deviations within which errors of a million values lie, but for one network in thirty: 2·10⁶·exp(−6²/2).
DEVIATIONS = 6.0
# Rounding of a weight and of a bias to float32 comes before the n + 1 roundings of their sum.
_ROUNDINGS_MORE = 2


class LayerBound(NamedTuple):
    """Bounds of one layer's float32 error.

    Attributes
    ----------
    name : str
    worst : float
        Largest possible error of one value if the layer's inputs are exact, as a share of its largest value.
    expected : float
        Standard deviation of the error in the network, inputs' errors included: root mean square over the layer's
        values, as a share of theirs. A model, not a proof.
    likely : float
        `DEVIATIONS` times the largest standard deviation of one value, as a share of the largest value.
    """

    name: str
    worst: float
    expected: float
    likely: float


def error_bounds(model: Any, x: Array) -> list[LayerBound]:
    """Bounds of every part of a network of real numbers, for one input.

    Parameters
    ----------
    model : model
    x : Array [shape=(N, H, W, C)]
    """
    weights = fold_batch_norms(model.plan, model.weights, np.float64)
    executable = NumpyExecutable(model.plan, weights)
    values: dict[str, Array] = {IMAGE: x.astype(np.float64)}
    variances: dict[str, Array] = {IMAGE: np.zeros(x.shape)}
    bounds = []
    for node in model.plan.nodes:
        for part in parts_of(node):
            inputs, errors = ([known[name] for name in part.inputs] for known in (values, variances))
            worst, variance = _ERRORS[type(part.layer)](part, weights, inputs, errors)
            values[part.name] = executable.compute(part, *inputs)
            variances[part.name] = variance
            bounds.append(_bound(part.name, worst, variance, values[part.name]))
        last = parts_of(node)[-1].name
        values[node.name], variances[node.name] = values[last], variances[last]
    return bounds


def rounded_to_bfloat16(model: Any, values: Mapping[str, Array]) -> frozenset[str]:
    """Parts that a run has as near as bfloat16's worst case to what they make, in double precision, of its own inputs.

    Parameters
    ----------
    model : model
        Says what a layer makes of its inputs.
    values : mapping of str to Array
        The run's, by endpoint, with its image; a part without its value or inputs is not among those found.
    """
    weights = fold_batch_norms(model.plan, model.weights, np.float64)
    executable, exact = NumpyExecutable(model.plan, weights), last_values(model.plan)
    found = set()
    for part in model.plan.parts():
        if not {part.name, *part.inputs} <= values.keys():
            continue
        inputs: list[Array] = [values[name].astype(np.float64) for name in part.inputs]
        seen = values[part.name]
        expected = executable.compute(part, *inputs)
        bound = _worst_in_bfloat16(part, weights, inputs, expected, part.name not in exact)
        if seen.shape == expected.shape and bool((np.abs(seen - expected) <= bound).all()):
            found.add(part.name)
    return frozenset(found)


def _worst_in_bfloat16(part: Part, weights: Any, inputs: list[Array], y: Array, rounds: bool) -> Array:
    """What products and the result round to bfloat16, on top of float32's worst case."""
    layer = part.layer
    worst, _ = _ERRORS[type(layer)](part, weights, inputs, [np.zeros_like(x) for x in inputs])
    if isinstance(layer, (Conv, Depthwise, Dense)):
        kernel, bias = (np.abs(weights[f"{part.name}/{variable}"]) for variable in ("kernel", "bias"))
        # A weight of products is rounded, and the sum before a function, which is at most this large.
        products = not isinstance(layer, Depthwise) and part.inputs != (IMAGE,)
        function = activation(getattr(layer, "activation", "linear")).function is not None
        share = (1 + BFLOAT16_UNIT) ** (products + function) - 1
        slope = _STEEPEST if function else 1.0
        worst = (worst + slope * share * _linear(part, np.abs(inputs[0]), kernel, bias)) * (1 + share)
    moves = isinstance(layer, (Concat, ConcatRows))
    return worst + BFLOAT16_UNIT * (np.abs(y) + worst) if rounds and not moves else worst


def _bound(name: str, worst: Array, variance: Array, value: Array) -> LayerBound:
    peak, size = float(np.abs(value).max()), float(np.sqrt(np.mean(np.square(value))))
    deviation = np.sqrt(variance)
    expected = float(np.sqrt(np.mean(variance)))
    return LayerBound(
        name,
        float(worst.max()) / peak if peak else 0.0,
        expected / size if size else 0.0,
        DEVIATIONS * float(deviation.max()) / peak if peak else 0.0,
    )


Errors = tuple[Array, Array]


def _sum_of_products(part: Part, weights: Any, inputs: list[Array], errors: list[Array]) -> Errors:
    """A convolution or dense layer: worst case of its own roundings, and variance of all."""
    kernel, bias = (weights[f"{part.name}/{variable}"] for variable in ("kernel", "bias"))
    (x,), (variance,) = inputs, errors
    terms = _terms(part, kernel)
    magnitude = _linear(part, np.abs(x), np.abs(kernel), np.abs(bias))
    own = np.square(np.sqrt(terms + _ROUNDINGS_MORE) * UNIT * magnitude)
    inherited = _linear(part, variance, np.square(kernel), np.zeros_like(bias))
    worst = gamma(terms + _ROUNDINGS_MORE + 1) * magnitude
    return _through_activation(part, _linear(part, x, kernel, bias), worst, own + inherited)


def _terms(part: Part, kernel: Array) -> int:
    return int(kernel.size // kernel.shape[-1])


def _linear(part: Part, x: Array, kernel: Array, bias: Array) -> Array:
    layer = part.layer
    if isinstance(layer, Dense):
        return dense(x, kernel, bias)
    assert isinstance(layer, (Conv, Depthwise))
    if kernel.ndim == 2:
        return pointwise(x, kernel, bias, NO_CLIP)
    compute = depthwise if isinstance(layer, Depthwise) else conv
    return compute(x, kernel, bias, layer.geometry(*x.shape[1:3]), NO_CLIP)


def _through_activation(part: Part, z: Array, worst: Array, variance: Array) -> Errors:
    """A clip removes the error of what lies beyond it by more than that; a function multiplies it by its slope."""
    clip, function = activation(getattr(part.layer, "activation", "linear"))
    deviation = DEVIATIONS * np.sqrt(variance)
    inside = (z > clip[0] - deviation) & (z < clip[1] + deviation)
    if function is None:
        return worst, np.where(inside, variance, 0.0)
    y, step = function(z), np.sqrt(variance)
    slope = np.maximum(np.abs(function(z + step) - y), np.abs(function(z - step) - y))
    rounding = _FUNCTION_ROUNDINGS * UNIT * np.abs(y)
    return worst * _STEEPEST + rounding, np.square(slope) + np.square(rounding)


# Roundings of an activation that is a function, and the steepest slope of those in use (hardswish's is 1.5).
_FUNCTION_ROUNDINGS, _STEEPEST = 4, 1.5


def _add(part: Part, weights: Any, inputs: list[Array], errors: list[Array]) -> Errors:
    rounding = UNIT * np.abs(inputs[0] + inputs[1])
    return rounding, errors[0] + errors[1] + np.square(rounding)


def _mean(part: Part, weights: Any, inputs: list[Array], errors: list[Array]) -> Errors:
    """Summed in double precision here, and rounded once."""
    layer, (x,), (variance,) = part.layer, inputs, errors
    window = x.shape[1] * x.shape[2] if isinstance(layer, GlobalAveragePool) else getattr(layer, "window", 1) ** 2
    rounding = UNIT * np.abs(_evaluated(part, x))
    return rounding, _evaluated(part, variance) / window + np.square(rounding)


def _evaluated(part: Part, *inputs: Array) -> Array:
    """A layer without weights."""
    return NumpyExecutable(Plan(()), {}).compute(part, *inputs)


def _moved(part: Part, weights: Any, inputs: list[Array], errors: list[Array]) -> Errors:
    """A layer that only moves numbers."""
    moved = _evaluated(part, *errors)
    return np.zeros_like(moved), moved


def _resize(part: Part, weights: Any, inputs: list[Array], errors: list[Array]) -> Errors:
    """A weighted mean of four pixels with two roundings along each axis; its error is at most theirs."""
    source, target = inputs
    rounding = gamma(6) * _evaluated(part, np.abs(source), target)
    return rounding, _evaluated(part, errors[0], target) + np.square(rounding)


_ERRORS: dict[type[Any], Callable[[Part, Any, list[Array], list[Array]], Errors]] = {
    Conv: _sum_of_products,
    Depthwise: _sum_of_products,
    Dense: _sum_of_products,
    Add: _add,
    GlobalAveragePool: _mean,
    AveragePool: _mean,
    Concat: _moved,
    ConcatRows: _moved,
    ResizeLike: _resize,
}
