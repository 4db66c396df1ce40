"""Random weights under which a network lives: unit gain, and batch norms that do something."""

from __future__ import annotations

import math

import numpy as np

# mean, deviation of normal numbers; low, high of uniform ones
_NORMAL = {"beta": (0.3, 0.3), "moving_mean": (0.0, 0.2), "bias": (0.0, 0.5)}
_UNIFORM = {"gamma": (0.7, 1.3), "moving_variance": (0.5, 1.5)}


def unit_gain_weights(plan, seed=0):
    """Weights for `plan` by canonical name."""
    rng = np.random.default_rng(seed)
    return {name: _draw(rng, name, shape) for name, shape in plan.parameter_shapes().items()}


def _draw(rng, name, shape):
    variable = name.rpartition("/")[2]
    if variable == "kernel":
        depthwise = len(shape) == 4 and shape[-1] == 1 and name.endswith("depthwise/kernel")
        inputs = math.prod(shape[:2]) if depthwise else math.prod(shape[:-1])
        values = rng.normal(0, math.sqrt(1.5 / inputs), shape)
    elif variable in _NORMAL:
        values = rng.normal(*_NORMAL[variable], shape)
    else:
        values = rng.uniform(*_UNIFORM[variable], shape)
    return values.astype(np.float32)
