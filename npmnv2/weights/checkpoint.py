"""Weights in memory: checkpoints, strict loading, folding of batch norms, random weights.

Weights are a flat dictionary from ``"<layer>/<variable>"`` to array, with Keras's layer names and array layouts. The
native file is Keras's legacy layout plus one JSON attribute called ``npmnv2``; what it holds for a classifier opens in
``tf.keras.applications.MobileNetV2(...).load_weights``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from npmnv2.errors import WeightsError
from npmnv2.kernels import Array
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.layers import Conv, Dense, Depthwise, Shape
from npmnv2.network.plan import BATCH_NORM_VARIABLES, Plan, batch_norm_name

if TYPE_CHECKING:
    from npmnv2.network.quantization import Quantization

TASKS = ("classification", "segmentation", "detection", "features")


@dataclass
class Checkpoint:
    """The contents of a weight file, whatever its format.

    Attributes
    ----------
    weights : dict of str to Array
        Canonical names and layouts; batch norms unfolded where the source has them.
    task : {"classification", "segmentation", "detection", "features"}
    config : MobileNetV2Config or None
    labels : tuple of str or None
        One per class, "background" included where the model has it.
    preprocessing : dict
        ``preset`` and what differs from it.
    source : dict
        Where it came from: format, file, sha256, ema, license, …
    quantization : Quantization, optional
        What the weights stand for, if they are integers.
    """

    weights: dict[str, Array]
    task: str
    config: MobileNetV2Config | None
    labels: tuple[str, ...] | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    quantization: Quantization | None = None


# --- from file to network ---------------------------------------------------------------------------------------------


def check_weights(plan: Plan, weights: Mapping[str, Array], where: str = "weights") -> None:
    """Compare names, shapes and numbers with what `plan` needs, and report everything that is wrong at once.

    A convolution may come with its batch norm or, already folded, with a bias.

    Raises
    ------
    WeightsError
        If arrays are missing, unexpected or misshapen, hold NaN or infinity, or are variances below zero.
    """
    expected = expected_shapes(plan, weights)
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    misshapen = [
        f"{name} is {weights[name].shape}, must be {shape}"
        for name, shape in expected.items()
        if name in weights and weights[name].shape != shape
    ]
    problems = [
        f"{len(names)} {word}: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
        for word, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("misshapen", misshapen),
            ("not finite", [name for name, array in weights.items() if not np.isfinite(array).all()]),
            ("negative", [name for name in weights if name.endswith("/moving_variance") and (weights[name] < 0).any()]),
        )
        if names
    ]
    if problems:
        raise WeightsError(f"{where} does not match the network: {'; '.join(problems)}")


def expected_shapes(plan: Plan, weights: Mapping[str, Array]) -> dict[str, Shape]:
    """`plan.parameter_shapes`, with a bias in place of each batch norm that `weights` has folded."""
    expected = plan.parameter_shapes()
    for part in plan.parts():
        norm = batch_norm_name(part.name)
        if f"{norm}/beta" in expected and f"{part.name}/bias" in weights:
            expected[f"{part.name}/bias"] = expected[f"{norm}/beta"]
            for variable in BATCH_NORM_VARIABLES:
                del expected[f"{norm}/{variable}"]
    return expected


def fold_batch_norms(plan: Plan, weights: Mapping[str, Array], dtype: DTypeLike = np.float32) -> dict[str, Array]:
    """Fold every batch norm into the convolution before it, and lay kernels out as the backends take them.

    ``kernel' = kernel · γ/√(σ² + ε)`` and ``bias' = β - μ · γ/√(σ² + ε)``, computed in float64 and rounded once.

    Returns
    -------
    dict of str to Array
        ``<layer>/kernel``: convolution (kh, kw, Cin, Cout), pointwise and dense (Cin, Cout), depthwise (kh, kw, C);
        ``<layer>/bias``: (Cout,). C-contiguous, of type `dtype`.

    Raises
    ------
    WeightsError
        If a folded number is too large for `dtype`.
    """
    return dict(FoldedWeights(plan, weights, dtype))


class FoldedWeights(Mapping[str, Array]):
    """The result of `fold_batch_norms`, computed layer by layer when it is asked for, and not kept."""

    def __init__(self, plan: Plan, weights: Mapping[str, Array], dtype: DTypeLike = np.float32) -> None:
        self._layers = {name: layer for name, layer, _ in plan.parts() if isinstance(layer, (Conv, Depthwise, Dense))}
        self._weights = weights
        self._dtype = np.dtype(dtype)
        self._last: tuple[str, dict[str, Array]] = ("", {})

    def __getitem__(self, key: str) -> Array:
        name, _, variable = key.rpartition("/")
        if name not in self._layers or variable not in ("kernel", "bias"):
            raise KeyError(key)
        if self._last[0] != name:  # a layer's kernel and bias are asked for one after the other
            self._last = (name, self._fold(name, self._layers[name]))
        return self._last[1][variable]

    def __iter__(self) -> Iterator[str]:
        return (f"{name}/{variable}" for name in self._layers for variable in ("kernel", "bias"))

    def __len__(self) -> int:
        return 2 * len(self._layers)

    def _fold(self, name: str, layer: Conv | Depthwise | Dense) -> dict[str, Array]:
        weights, kernel = self._weights, self._weights[f"{name}/kernel"]
        if isinstance(layer, Depthwise):
            kernel = kernel[..., 0]
        elif kernel.shape[:2] == (1, 1):
            kernel = kernel[0, 0]
        if isinstance(layer, Dense) or f"{name}/bias" in weights:
            bias = weights[f"{name}/bias"]
        else:
            assert layer.norm is not None
            scale, bias = _scale_and_shift(weights, batch_norm_name(name), layer.norm)
            kernel = _scaled(kernel, scale, self._dtype)
        return {"kernel": _rounded(kernel, self._dtype, name), "bias": _rounded(bias, self._dtype, name)}


def _scaled(kernel: Array, scale: Array, dtype: DTypeLike) -> Array:
    """The product in float64, rounded once: by pieces, as new memory of twice the kernel's size takes longer."""
    scaled = np.empty(kernel.shape, dtype)
    with np.errstate(over="ignore"):
        return np.multiply(kernel, scale, out=scaled, dtype=np.float64, casting="same_kind")


def _rounded(values: Array, dtype: DTypeLike, layer: str) -> Array:
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(values, dtype)
    if not np.isfinite(rounded).all():
        raise WeightsError(f"weights of {layer} must fit into {np.dtype(dtype)} when their batch norm is folded")
    return rounded


def _scale_and_shift(weights: Mapping[str, Array], norm: str, epsilon: float) -> tuple[Array, Array]:
    gamma, beta, mean, variance = (weights[f"{norm}/{v}"].astype(np.float64) for v in BATCH_NORM_VARIABLES)
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def initialize(
    plan: Plan, config: MobileNetV2Config, seed: int | np.random.Generator | None = None
) -> dict[str, Array]:
    """Random weights as in transformers: kernels normal with `initializer_range`, biases 0, batch norms neutral."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    for name, shape in plan.parameter_shapes().items():
        variable = name.rpartition("/")[2]
        if variable == "kernel":
            weights[name] = rng.normal(0, config.initializer_range, shape).astype(np.float32)
        else:
            weights[name] = np.full(shape, variable in ("gamma", "moving_variance"), np.float32)
    return weights
