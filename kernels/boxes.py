"""Boxes: corners, overlap, and the code in which a detector says how a box differs from its anchor.

A box is (top, left, bottom, right). Anchors and codes have centers and sizes instead, (y, x, height, width).

Sources: object_detection/box_coders/faster_rcnn_box_coder.py of tensorflow/models; detection_postprocess.cc of LiteRT.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .types import Array

CODER_SCALES = (10.0, 10.0, 5.0, 5.0)
"""Factors on (y, x, height, width) of a code, with which its values vary about equally."""

WINDOW = (0.0, 0.0, 1.0, 1.0)
"""The whole input as a box."""


def decode_boxes(codes: Array, anchors: Array, scales: tuple[float, ...] = CODER_SCALES) -> Array:
    """Boxes that codes (ty, tx, th, tw) stand for, given their anchors (y, x, height, width).

    The center moves by ``t / scale`` sizes of the anchor; the size changes by the factor ``exp(t / scale)``.

    Parameters
    ----------
    codes : Array [shape=(…, anchors, 4)]
    anchors : Array [shape=(anchors, 4)]
    scales : four floats

    Returns
    -------
    Array [shape=(…, anchors, 4)]
        (top, left, bottom, right), not clipped.
    """
    scaled = codes / np.asarray(scales, codes.dtype)
    center = scaled[..., :2] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(scaled[..., 2:]) * anchors[:, 2:] / 2
    return np.concatenate([center - half, center + half], axis=-1)


def decode_boxes_tflite(codes: Array, anchors: Array, scales: tuple[float, ...] = CODER_SCALES) -> NDArray[np.float32]:
    """As `decode_boxes`, in the arithmetic of ``TFLite_Detection_PostProcess``: float64 up to center and half size."""
    wide = anchors.astype(np.float64)
    scaled = codes.astype(np.float64) / np.asarray(scales, np.float32)
    center = (scaled[..., :2] * wide[:, 2:] + wide[:, :2]).astype(np.float32)
    half = (0.5 * np.exp(scaled[..., 2:]) * wide[:, 2:]).astype(np.float32)
    return np.concatenate([center - half, center + half], axis=-1)


def encode_boxes(boxes: Array, anchors: Array, scales: tuple[float, ...] = CODER_SCALES) -> Array:
    """Codes of boxes (top, left, bottom, right) of positive size: what `decode_boxes` undoes."""
    size = boxes[..., 2:] - boxes[..., :2]
    center = boxes[..., :2] + size / 2
    moved = (center - anchors[:, :2]) / anchors[:, 2:]
    return np.concatenate([moved, np.log(size / anchors[:, 2:])], axis=-1) * np.asarray(scales, boxes.dtype)


def clip_boxes(boxes: Array, window: tuple[float, float, float, float] = WINDOW) -> Array:
    """Boxes cut to a window; one that lies outside is left without area."""
    low, high = np.asarray(window, boxes.dtype).reshape(2, 2)
    return np.maximum(np.minimum(boxes, np.tile(high, 2)), np.tile(low, 2))


def box_areas(boxes: Array) -> Array:
    """Height times width of boxes [shape=(…, 4)]."""
    areas: Array = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return areas


def overlaps(first: Array, second: Array) -> Array:
    """Intersection over union of every box of `first` with every box of `second`.

    Parameters
    ----------
    first : Array [shape=(n, 4)]
    second : Array [shape=(m, 4)]
        Corners in any order. Values are finite.

    Returns
    -------
    Array [shape=(n, m)]
        0 where a box has no area. In float32 these are TensorFlow's and LiteRT's bits.
    """
    a, b = _upright(first)[:, :, None], _upright(second)[:, None, :]
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    height = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    width = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    shared = np.maximum(height, 0) * np.maximum(width, 0)
    covered = area_a + area_b - shared
    shares: Array = np.zeros_like(shared)
    np.divide(shared, covered, out=shares, where=covered > 0)
    return shares


def _upright(boxes: Array) -> Array:
    """Rows top, left, bottom, right [shape=(4, n)] of boxes whose corners come in any order."""
    corners = boxes.T
    return np.concatenate([np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])])
