"""The channels of a map side by side in one picture: what each of them responds to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from npmnv2.kernels import Array

if TYPE_CHECKING:
    from PIL import Image

# Pixels of a picture's longer side, of a channel's longer side at least, and between two channels.
_LARGEST, _SMALLEST_TILE, _GAP = 2048, 64, 2
_GROUND = (128, 128, 128)
# From 0 to the largest number: black, purple, orange, pale yellow; to the smallest: black, blue, pale blue.
_RISING = np.array([(0, 0, 0), (92, 20, 110), (208, 56, 64), (250, 150, 30), (252, 250, 190)], np.float64)
_FALLING = np.array([(0, 0, 0), (16, 60, 160), (60, 160, 240), (200, 240, 255)], np.float64)


def heat_colors(values: Array, limit: float | None = None) -> NDArray[np.uint8]:
    """Colors of numbers: black for 0, ever brighter and warm for positive ones, cold for negative ones.

    Parameters
    ----------
    values : Array
    limit : float, optional
        The size that has the brightest color; the largest among the values if not given.

    Returns
    -------
    array [shape=(*values.shape, 3)], uint8
    """
    largest = (float(np.abs(values).max(initial=0)) if limit is None else limit) or 1.0
    share = np.clip(np.abs(values) / largest, 0, 1)
    rising, falling = (_along(share, stops) for stops in (_RISING, _FALLING))
    return np.where((values >= 0)[..., None], rising, falling)


def _along(share: Array, stops: NDArray[np.float64]) -> NDArray[np.uint8]:
    places = np.linspace(0, 1, len(stops))
    colors = np.stack([np.interp(share, places, stops[:, band]) for band in range(3)], axis=-1)
    return np.rint(colors).astype(np.uint8)


def map_grid(maps: Array) -> Image.Image:
    """A picture with a tile for every channel, row by row, all in one scale of color (`heat_colors`).

    Parameters
    ----------
    maps : Array [shape=(H, W, C)]
    """
    from PIL import Image

    height, width, channels = maps.shape
    columns = min(channels, max(1, round(math.sqrt(channels * height / width))))
    rows = -(-channels // columns)
    factor = _factor(max(rows * height, columns * width), max(rows, columns), max(height, width))
    tile = (round(height * factor), round(width * factor))
    size = (rows * (tile[0] + _GAP) + _GAP, columns * (tile[1] + _GAP) + _GAP)
    picture = Image.new("RGB", size[::-1], _GROUND)
    limit = float(np.abs(maps).max(initial=0))
    for channel in range(channels):
        row, column = divmod(channel, columns)
        one = Image.fromarray(heat_colors(maps[..., channel], limit))
        sampling = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
        place = (_GAP + column * (tile[1] + _GAP), _GAP + row * (tile[0] + _GAP))
        picture.paste(one.resize(tile[::-1], sampling), place)
    return picture


def _factor(side: int, tiles: int, longest: int) -> float:
    """By how much channels are enlarged: whole numbers where there is room; large maps shrink to fit."""
    room = _LARGEST - tiles * _GAP
    if side > room:
        return max(room / side, min(1.0, _SMALLEST_TILE / longest))
    wanted = max(1, -(-_SMALLEST_TILE // longest))
    return max(1, min(wanted, room // side))
