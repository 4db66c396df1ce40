"""Random weights that keep a network alive: signals neither fade nor all reach the clip, and batch norms do something.

A fresh initialization lets the signal of 53 layers fade to almost nothing. Two backends would then agree whatever they
compute, and a benchmark would time denormal numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from npmnv2.kernels import Array
from npmnv2.network.layers import Shape
from npmnv2.network.plan import Plan

__all__ = ["draw_weights", "unit_gain_weights"]

# Mean and deviation of normal numbers; low and high of uniform ones.
_NORMAL = {"beta": (0.3, 0.3), "moving_mean": (0.0, 0.2), "bias": (0.0, 0.5)}
_UNIFORM = {"gamma": (0.7, 1.3), "moving_variance": (0.5, 1.5)}


def unit_gain_weights(plan: Plan, seed: int = 0) -> dict[str, Array]:
    """Weights of a plan by canonical name, batch norms not folded; float32, the same for the same seed."""
    return draw_weights(plan.parameter_shapes(), seed)


def draw_weights(shapes: Mapping[str, Shape], seed: int = 0) -> dict[str, Array]:
    """Weights for names such as ``block_1_expand/kernel`` and their shapes, in the order of `shapes`."""
    rng = np.random.default_rng(seed)
    return {name: _draw(rng, name, shape) for name, shape in shapes.items()}


def _draw(rng: np.random.Generator, name: str, shape: Shape) -> Array:
    variable = name.rpartition("/")[2]
    values: Array
    if variable == "kernel":
        inputs = math.prod(shape[:2]) if name.endswith("depthwise/kernel") else math.prod(shape[:-1])
        values = rng.normal(0, math.sqrt(1.5 / inputs), shape)
    elif variable in _NORMAL:
        values = rng.normal(*_NORMAL[variable], shape)
    else:
        values = rng.uniform(*_UNIFORM[variable], shape)
    return values.astype(np.float32)
