"""From folded float weights and the ranges of all values to integers: post-training quantization.

Kernels get the scale at which their largest weight is the largest integer, per output channel where the type is int8.
Values get the scale at which their range fills the type, moved so that 0 is one of its steps. Biases follow.

Rounding moves every weight of a kernel by up to half a step, and what that adds to a sum is not 0 on average: inputs
behind a ReLU are all positive. A *corrected* bias takes the average off.

Sources: Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*
(arXiv 1712.05877); TensorFlow Lite's 8-bit quantization specification; for the correction Nagel et al., *Data-Free
Quantization Through Weight Equalization and Bias Correction* (arXiv 1906.04721).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import ArgumentError
from npmnv2.kernels import Array, TensorQuantization
from npmnv2.network.layers import AveragePool, Concat, Conv, Dense, Depthwise, GlobalAveragePool, ResizeLike
from npmnv2.network.plan import IMAGE, Part, Plan
from npmnv2.network.quantization import Quantization, value_parts

Range = tuple[float, float]

# A layer whose range is nothing (all black photos) still needs a step.
_SMALLEST_RANGE = 1e-6
_LARGEST_BIAS = 2.0**29


def quantize_network(
    plan: Plan,
    folded: Mapping[str, Array],
    ranges: Mapping[str, Range],
    dtype: str = "int8",
    pooling: str = "mean",
    means: Mapping[str, Array] | None = None,
) -> tuple[dict[str, Any], Quantization]:
    """Integers for a network's weights, and what they stand for.

    Parameters
    ----------
    plan : Plan
    folded : dict of str to Array
        From `npmnv2.weights.checkpoint.fold_batch_norms`.
    ranges : dict of str to (low, high)
        Of the image and of every part of the plan; of a kernel (``<layer>/kernel``) where its numbers do not say it.
    dtype : {"int8", "uint8"}
        int8 kernels have a scale per channel and the zero point 0; uint8 kernels one scale and any zero point.
    pooling : {"mean", "average_pool"}
        Give a global pool a scale of its own, or that of its input.
    means : dict of str to Array [shape=(C,)], optional
        Of the channels of the image and of every part: biases are corrected by them.

    Returns
    -------
    weights : dict of str to array
        Kernels of type `dtype` and biases of int32, in canonical layout.
    quantization : Quantization
    """
    if dtype not in ("int8", "uint8"):
        raise ArgumentError(f"dtype (={dtype!r}) must be 'int8' or 'uint8'")
    values = _values(plan, ranges, dtype, pooling)
    kernels: dict[str, TensorQuantization] = {}
    weights: dict[str, Any] = {}
    for part in value_parts(plan):
        if isinstance(part.layer, (Conv, Depthwise, Dense)):
            kernel = folded[f"{part.name}/kernel"]
            source, bias = values[part.inputs[0]], folded[f"{part.name}/bias"]
            # A channel of next to no weights has a coarser scale, so that its bias fits beside the sums.
            least = np.abs(bias.astype(np.float64)) / (source.scale[0] * _LARGEST_BIAS)
            kernels[part.name] = q = kernel_quantization(kernel, dtype, least, ranges.get(f"{part.name}/kernel"))
            rounded = _rounded(kernel, q)
            if means is not None:
                bias = bias - _shift(part, q.centered(rounded, np.float64) * q.scales - kernel, means[part.inputs[0]])
            unit = source.scale[0] * q.scales.astype(np.float64)
            weights[f"{part.name}/kernel"] = canonical_kernel(part, rounded)
            weights[f"{part.name}/bias"] = np.rint(bias / unit).astype(np.int32)
    return weights, Quantization(values, kernels, pooling)


def kernel_quantization(kernel: Array, dtype: str, least: Any = 0.0, limits: Range | None = None) -> TensorQuantization:
    """Scales of a kernel (…, channels): its narrow range, without the lowest integer, as TensorFlow Lite wants it.

    No scale is below that of its channel in `least`. A uint8 kernel may have `limits` other than its own numbers'.
    """
    if dtype == "int8":
        largest = np.abs(kernel.reshape(-1, kernel.shape[-1])).max(axis=0)
        return TensorQuantization(_float32(np.maximum(np.maximum(largest, _SMALLEST_RANGE) / 127, least)), 0, dtype)
    low, high = (float(kernel.min()), float(kernel.max())) if limits is None else limits
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 254, _SMALLEST_RANGE / 254, float(np.max(least)))
    return TensorQuantization(_float32([scale]), 1 + round(-low / scale), dtype)


def canonical_kernel(part: Part, kernel: NDArray[Any]) -> NDArray[Any]:
    """A kernel as files hold it: convolutions have four axes."""
    if isinstance(part.layer, Depthwise):
        return kernel[..., np.newaxis]
    return kernel[np.newaxis, np.newaxis] if isinstance(part.layer, Conv) and kernel.ndim == 2 else kernel


def value_quantization(low: float, high: float, dtype: str, activation: str = "linear") -> TensorQuantization:
    """The scale and zero point at which a range, widened to hold 0, fills the type."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, _SMALLEST_RANGE) / 255
    smallest = int(np.iinfo(dtype).min)
    return TensorQuantization(_float32([scale]), smallest + round(-low / scale), dtype, activation)


def _values(plan: Plan, ranges: Mapping[str, Range], dtype: str, pooling: str) -> dict[str, TensorQuantization]:
    values = {IMAGE: value_quantization(*ranges[IMAGE], dtype)}
    for part in value_parts(plan):
        name = part.name
        values[name] = value_quantization(*ranges[name], dtype, _activation(part))
        keeps = isinstance(part.layer, GlobalAveragePool) and pooling == "average_pool"
        if keeps or isinstance(part.layer, (AveragePool, ResizeLike)):
            values[name] = replace(values[part.inputs[0]], activation="linear")
        if isinstance(part.layer, Concat):
            _share_scale(part, values)
    return values


def _share_scale(part: Part, values: dict[str, TensorQuantization]) -> None:
    """What is joined must have one scale."""
    joined = values[part.name]
    for name in part.inputs:
        values[name] = replace(joined, activation=values[name].activation)


def _activation(part: Part) -> str:
    if not isinstance(part.layer, (Conv, Depthwise)):
        return "linear"
    name = part.layer.activation
    if name not in ("linear", "relu", "relu6"):
        raise ArgumentError(f"hidden_act (={name!r}) must be 'relu6' or 'relu' for integers")
    return str(name)


def _rounded(kernel: Array, q: TensorQuantization) -> NDArray[np.integer[Any]]:
    low, high = q.limits
    steps = np.rint(kernel / q.scales.astype(np.float64)) + q.zero_point
    rounded: NDArray[np.integer[Any]] = np.clip(steps, low + 1, high).astype(q.dtype)
    return rounded


def _shift(part: Part, error: NDArray[np.float64], mean: Array) -> NDArray[np.float64]:
    """What an error of a kernel adds to every channel of the layer's output on average."""
    if isinstance(part.layer, Depthwise):
        by_channel: NDArray[np.float64] = error.sum(axis=(0, 1)) * mean
        return by_channel
    shift: NDArray[np.float64] = mean @ error.reshape(-1, *error.shape[-2:]).sum(axis=0)
    return shift


def _float32(scales: Any) -> tuple[float, ...]:
    return tuple(np.asarray(scales, np.float32).tolist())
