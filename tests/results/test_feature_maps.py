"""Channels side by side in one picture."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2.results.feature_maps import heat_colors, map_grid


def test_colors_rise_with_the_number_and_tell_signs_apart() -> None:
    colors = heat_colors(np.linspace(-1, 1, 101)).astype(int)
    brightness = colors @ [299, 587, 114]
    assert (np.diff(brightness[50:]) >= 0).all()
    assert (np.diff(brightness[:51]) <= 0).all()
    assert tuple(colors[50]) == (0, 0, 0)
    assert colors[0, 2] > colors[0, 0]
    assert colors[-1, 0] > colors[-1, 2]
    np.testing.assert_array_equal(heat_colors(np.zeros((2, 3))), 0)
    np.testing.assert_array_equal(heat_colors(np.array([1.0]), limit=2.0), heat_colors(np.array([0.5]), limit=1.0))


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 7, 320), (28, 20, 33), (112, 112, 96), (3, 400, 5), (513, 513, 3)])
def test_every_channel_has_its_tile(shape) -> None:
    maps = np.zeros(shape, np.float32)
    maps[..., -1] = 1
    picture = map_grid(maps)
    assert max(picture.size) <= 2400
    pixels = np.asarray(picture)
    # The ground around tiles, tiles of zeros, and one bright tile: the last in its order.
    bright = (pixels == heat_colors(np.ones(1))[0]).all(-1)
    assert bright.any()
    assert bright.sum() <= pixels.shape[0] * pixels.shape[1] / max(1, shape[2] * 0.5)
    assert np.argwhere(bright)[-1][0] >= pixels.shape[0] * 0.5 or shape[2] == 1
