"""Activations by name, against their definitions in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npmnv2.kernels import NO_CLIP, RELU6
from npmnv2.network.activations import NAMES, activation


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def gelu_tanh(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


DEFINITIONS = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0),
    "relu6": lambda x: min(max(x, 0), 6),
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "gelu_10": lambda x: min(max(0.5 * x * (1 + math.erf(x / math.sqrt(2))), -10), 10),
    **dict.fromkeys(["gelu_accurate", "gelu_fast", "gelu_new", "gelu_python_tanh", "gelu_pytorch_tanh"], gelu_tanh),
    "gelu_python": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "hardswish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "laplace": lambda x: 0.5 * (1 + math.erf((x - 0.707107) / (0.282095 * math.sqrt(2)))),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "mish": lambda x: x * math.tanh(softplus(x)),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu2": lambda x: max(x, 0) ** 2,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "sqrtsoftplus": lambda x: math.sqrt(softplus(x)),
    "swish": lambda x: x * sigmoid(x),
    "tanh": math.tanh,
}


def test_every_name_has_a_definition_here() -> None:
    assert set(DEFINITIONS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values(name: str, dtype: type) -> None:
    x = np.linspace(-12, 12, 241).astype(dtype)
    clip, function = activation(name)
    result = np.clip(x, *clip) if function is None else function(np.clip(x, *clip))
    assert result.dtype == dtype
    expected = np.array([DEFINITIONS[name](float(v)) for v in x])
    # A handful of roundings, of intermediate values no larger than 1 + |x|³.
    np.testing.assert_allclose(result, expected, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


def test_functions_do_not_change_their_argument() -> None:
    for name in NAMES:
        x = np.linspace(-4, 4, 9, dtype=np.float32)
        before, function = x.copy(), activation(name).function
        if function:
            function(x)
        np.testing.assert_array_equal(x, before, name)


def test_clips_and_functions() -> None:
    assert activation("relu6") == (RELU6, None)
    assert activation(np.tanh) == (NO_CLIP, np.tanh)
    with pytest.raises(ValueError, match=r"hidden_act \(='relu7'\) must be a function or one of gelu, .*tanh"):
        activation("relu7")
