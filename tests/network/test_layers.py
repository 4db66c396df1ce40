"""Layers as data: shapes, parameters, multiply-adds."""

from __future__ import annotations

import pytest

from npmnv2.kernels import Geometry
from npmnv2.network.layers import (
    Add,
    AveragePool,
    Concat,
    Conv,
    Dense,
    Depthwise,
    GlobalAveragePool,
    InvertedResidual,
    ResizeLike,
)

SHAPE = (9, 14, 6)


@pytest.mark.parametrize(
    ("layer", "inputs", "output"),
    [
        (Conv(filters=10, stride=2), [SHAPE], (5, 7, 10)),
        (Conv(filters=10, stride=2, tf_padding=False), [SHAPE], (5, 7, 10)),
        (Conv(filters=10, kernel=1), [SHAPE], (9, 14, 10)),
        (Depthwise(stride=2), [SHAPE], (5, 7, 6)),
        (Depthwise(dilation=4), [SHAPE], SHAPE),
        (Add(), [SHAPE, SHAPE], SHAPE),
        (Concat(), [SHAPE, (9, 14, 3)], (9, 14, 9)),
        (GlobalAveragePool(), [SHAPE], (6,)),
        (GlobalAveragePool(keep_dims=True), [SHAPE], (1, 1, 6)),
        (AveragePool(7), [SHAPE], (3, 8, 6)),
        (AveragePool(4, stride=3), [SHAPE], (2, 4, 6)),
        (Dense(5), [(6,)], (5,)),
        (Dense(5), [SHAPE], (9, 14, 5)),
        (ResizeLike(), [(1, 1, 6), (9, 14, 3)], SHAPE),
        (InvertedResidual(10, 36, stride=2), [SHAPE], (5, 7, 10)),
        (InvertedResidual(6, None, residual=True), [SHAPE], SHAPE),
    ],
    ids=str,
)
def test_output_shape(layer, inputs, output) -> None:
    assert layer.output_shape(*inputs) == output


@pytest.mark.parametrize(
    ("layer", "shapes", "multiply_adds"),
    [
        (Conv(filters=10, stride=2), {"kernel": (3, 3, 6, 10)}, 5 * 7 * 10 * 9 * 6),
        (Conv(filters=10, kernel=1, norm=None), {"kernel": (1, 1, 6, 10), "bias": (10,)}, 9 * 14 * 10 * 6),
        (Depthwise(stride=2), {"kernel": (3, 3, 6, 1)}, 5 * 7 * 6 * 9),
        (Depthwise(norm=None), {"kernel": (3, 3, 6, 1), "bias": (6,)}, 9 * 14 * 6 * 9),
        (Dense(5), {"kernel": (6, 5), "bias": (5,)}, 9 * 14 * 5 * 6),
        (GlobalAveragePool(), {}, 0),
    ],
    ids=str,
)
def test_parameters_and_multiply_adds(layer, shapes, multiply_adds) -> None:
    assert layer.parameter_shapes(SHAPE) == shapes
    assert layer.multiply_adds(SHAPE) == multiply_adds


@pytest.mark.parametrize("shape", [(6, 14, 3), (14, 6, 3), (6, 6, 3)])
def test_a_pooling_window_must_fit_in_both_directions(shape) -> None:
    with pytest.raises(ValueError, match=rf"pooling_window \(=7\) .* got a map of {shape[0]}×{shape[1]}; use a larger"):
        AveragePool(7).output_shape(shape)


def test_the_parts_of_a_block() -> None:
    block = InvertedResidual(6, 36, stride=1, dilation=2, residual=True, activation="relu", norm=1e-5, tf_padding=False)
    shared = {"norm": 1e-5, "tf_padding": False}
    assert block.parts() == {
        "expand": Conv(filters=36, kernel=1, activation="relu", **shared),
        "depthwise": Depthwise(dilation=2, activation="relu", **shared),
        "project": Conv(filters=6, kernel=1, activation="linear", **shared),
        "add": Add(),
    }
    assert [*InvertedResidual(6, None).parts()] == ["depthwise", "project"]


def test_a_window_moves_by_one_pixel_and_is_not_dilated_unless_told_otherwise() -> None:
    assert Depthwise().geometry(8, 9) == Geometry(1, 1, ((1, 1), (1, 1)))
