"""From logits at the network's stride to one label per pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npmnv2.kernels import Array, Variant, resize_bilinear, samples

# Rows of logits are resized and judged in pieces of this size: a mask of 10,000 × 10,000 needs no gigabytes of scores.
_BLOCK_BYTES = 4 * 1024 * 1024


def resized_logits(logits: Array, size: tuple[int, int], variant: Variant) -> Array:
    """Resize logits (height, width, classes) bilinearly to `size`; at their own size they stay as they are."""
    return logits if logits.shape[:2] == tuple(size) else resize_bilinear(logits[None], size, variant)[0]


def class_map(logits: Array, size: tuple[int, int], variant: Variant) -> NDArray[np.int64]:
    """Best class for every pixel of the logits resized to `size`.

    Parameters
    ----------
    logits : Array [shape=(h, w, classes)]
        Scores at the network's stride.
    size : (height, width)
        Of the result.
    variant : {"tf1", "tf1_align_corners", "half_pixel"}
        See `npmnv2.kernels.resize_bilinear`.

    Returns
    -------
    array [shape=(height, width)], int64
        The lower index where two classes are level. The resized logits are never held as a whole.
    """
    height, width = size
    labels = np.empty(size, np.int64)
    if logits.shape[:2] == tuple(size):
        return logits.argmax(-1, out=labels)
    wide = resize_bilinear(logits[None], (logits.shape[0], width), variant)[0]
    rows = samples(logits.shape[0], height, variant)
    step = max(1, _BLOCK_BYTES // wide[0].nbytes)
    for start in range(0, height, step):
        block = slice(start, start + step)
        upper, lower = wide[rows.lower[block]], wide[rows.upper[block]]
        weight = rows.weight[block, None, None].astype(wide.dtype)
        labels[block] = (upper + (lower - upper) * weight).argmax(-1)
    return labels
