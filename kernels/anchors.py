"""Anchors of SSD: the boxes of fixed size and place that a detector corrects.

Every pixel of a feature map has the same few anchors, centered on it. An anchor is (y, x, height, width): center and
size, in parts of the input's sides. Anchors may reach beyond the input.

Sources: Liu et al., *SSD: Single Shot MultiBox Detector* (arXiv 1512.02325), section 2.2;
object_detection/anchor_generators/multiple_grid_anchor_generator.py of tensorflow/models.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]


class AnchorRules(NamedTuple):
    """How the sizes of anchors follow from the number of maps; the defaults are those of the published detectors.

    Attributes
    ----------
    min_scale, max_scale : float
        Sizes on the first and the last map, in parts of the input's shorter side. Those between are evenly spread.
    scales : tuple of float
        Sizes themselves, one a map, instead of `min_scale` and `max_scale`.
    aspect_ratios : tuple of float
        Width over height. The published 0.3333 is not a third.
    interpolated_ratio : float
        Aspect ratio of one more anchor, of a size between this map's and the next one's; 0 for none.
    reduce_lowest : bool
        Three anchors instead of six on the first map, one of them of size 0.1.
    """

    min_scale: float = 0.2
    max_scale: float = 0.95
    scales: tuple[float, ...] = ()
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5, 3.0, 0.3333)
    interpolated_ratio: float = 1.0
    reduce_lowest: bool = True


PUBLISHED_ANCHORS = AnchorRules()


def anchor_scales(maps: int, rules: AnchorRules) -> tuple[float, ...]:
    """Size of the anchors on each of the maps, and 1 as what would come next."""
    if rules.scales:
        return (*rules.scales, 1.0)
    if maps == 1:
        return (rules.min_scale, 1.0)
    step = (rules.max_scale - rules.min_scale) / (maps - 1)
    return (*(rules.min_scale + step * number for number in range(maps)), 1.0)


def anchor_shapes(maps: int, rules: AnchorRules = PUBLISHED_ANCHORS) -> list[tuple[tuple[float, float], ...]]:
    """(scale, aspect ratio) of the anchors of a pixel, for each map."""
    scales = anchor_scales(maps, rules)
    shapes: list[tuple[tuple[float, float], ...]] = []
    for number, (scale, following) in enumerate(pairwise(scales)):
        if number == 0 and rules.reduce_lowest:
            shapes.append(((0.1, 1.0), (scale, 2.0), (scale, 0.5)))
            continue
        between = (((scale * following) ** 0.5, rules.interpolated_ratio),) if rules.interpolated_ratio else ()
        shapes.append((*((scale, ratio) for ratio in rules.aspect_ratios), *between))
    return shapes


def grid_anchors(size: Pair, shapes: Sequence[tuple[float, float]], input_size: Pair = (1, 1)) -> NDArray[np.float32]:
    """Anchors of one feature map.

    Parameters
    ----------
    size : (height, width) of the map
    shapes : sequence of (scale, aspect ratio)
        Of the anchors of one pixel.
    input_size : (height, width) of the input
        Scales are parts of its shorter side.

    Returns
    -------
    array [shape=(height · width · len(shapes), 4)], float32
        (y, x, height, width); the anchors of a pixel are neighbors, then come the pixels of a row.
    """
    scale, ratio = np.array(shapes, np.float32).T
    shorter = min(input_size)
    heights = scale / np.sqrt(ratio) * np.float32(shorter / input_size[0])
    widths = scale * np.sqrt(ratio) * np.float32(shorter / input_size[1])
    rows, columns = ((np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side) for side in size)
    anchors = np.empty((*size, len(shapes), 4), np.float32)
    anchors[..., 0] = rows[:, None, None]
    anchors[..., 1] = columns[None, :, None]
    anchors[..., 2], anchors[..., 3] = heights, widths
    return anchors.reshape(-1, 4)


def ssd_anchors(
    sizes: Sequence[Pair], rules: AnchorRules = PUBLISHED_ANCHORS, input_size: Pair = (1, 1)
) -> NDArray[np.float32]:
    """Anchors of all feature maps, one map after the other.

    Parameters
    ----------
    sizes : sequence of (height, width)
        Of the maps, largest first: 19, 10, 5, 3, 2 and 1 for an input of 300 pixels.
    rules : AnchorRules
    input_size : (height, width) of the input

    Returns
    -------
    array [shape=(anchors, 4)], float32
        (y, x, height, width); 1917 for 300 pixels.
    """
    shapes = anchor_shapes(len(sizes), rules)
    return np.concatenate([grid_anchors(size, shape, input_size) for size, shape in zip(sizes, shapes, strict=True)])
