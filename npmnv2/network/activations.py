"""Activation functions by the names that transformers accepts.

The three that matter here are clip ranges, which kernels apply while they store. All others are NumPy functions that
run after the kernel, one image at a time on the compiled backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from npmnv2.errors import ArgumentError
from npmnv2.kernels import NO_CLIP, RELU, RELU6, Clip

Function = Callable[[Any], Any]


class Activation(NamedTuple):
    """The activation of a layer: a clip inside the kernel, and possibly a function after it."""

    clip: Clip
    function: Function | None = None


CLIPS: dict[str, Clip] = {"linear": NO_CLIP, "relu": RELU, "relu6": RELU6}


def _erf(x: Any) -> Any:
    # NumPy has no error function; activations of this kind are rare enough for a loop over math.erf.
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), dtype=x.dtype)


def _sigmoid(x: Any) -> Any:
    # tanh does not overflow where exp(-x) would.
    return 0.5 * (1 + np.tanh(0.5 * x))


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1 + _erf(x * math.sqrt(0.5)))


def _gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _silu(x: Any) -> Any:
    return x * _sigmoid(x)


FUNCTIONS: dict[str, Function] = {
    "gelu": _gelu,
    "gelu_10": lambda x: np.clip(_gelu(x), -10, 10),
    "gelu_accurate": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_new": _gelu_tanh,
    "gelu_python": _gelu,
    "gelu_python_tanh": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "laplace": lambda x: 0.5 * (1 + _erf((x - 0.707107) / (0.282095 * math.sqrt(2)))),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "relu2": lambda x: np.square(np.maximum(x, 0)),
    "sigmoid": _sigmoid,
    "silu": _silu,
    "sqrtsoftplus": lambda x: np.sqrt(np.logaddexp(0, x)),
    "swish": _silu,
    "tanh": np.tanh,
}

NAMES: tuple[str, ...] = tuple(sorted((*CLIPS, *FUNCTIONS)))


def activation(name: str | Function) -> Activation:
    """Look up an activation by name, or wrap a function of one array.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if callable(name):
        return Activation(NO_CLIP, name)
    if isinstance(name, str) and name in CLIPS:
        return Activation(CLIPS[name])
    if isinstance(name, str) and name in FUNCTIONS:
        return Activation(NO_CLIP, FUNCTIONS[name])
    raise ArgumentError(f"hidden_act (={name!r}) must be a function or one of {', '.join(NAMES)}")
