"""Losses as transformers and PyTorch define them: means over all labels that are not ignored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npmnv2.errors import ArgumentError, ArgumentTypeError
from npmnv2.kernels import Array
from npmnv2.results.class_map import Grid, sampled

# PyTorch's mark for a label that does not count (a segmentation map's is 255: `npmnv2.labels.IGNORE_INDEX`).
TORCH_IGNORE_INDEX = -100


def cross_entropy(logits: Array, labels: ArrayLike, ignore_index: int = TORCH_IGNORE_INDEX) -> float:
    """Mean of ``-log softmax(logits)[label]`` over all labels other than `ignore_index`; NaN if there is none.

    Parameters
    ----------
    logits : Array [shape=(…, classes)]
    labels : integers [shape=(…)]
    """
    wanted = np.asarray(labels).reshape(-1).astype(np.int64)
    scores = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
    counted = wanted != ignore_index
    wanted, scores = wanted[counted], scores[counted]
    if wanted.size and (wanted.min() < 0 or wanted.max() >= scores.shape[1]):
        raise ArgumentError(
            f"labels must lie in 0…{scores.shape[1] - 1} or be {ignore_index}, got {wanted.min()}…{wanted.max()}"
        )
    if not wanted.size:
        return float("nan")
    scores = scores - scores.max(axis=1, keepdims=True)
    picked = np.take_along_axis(scores, wanted[:, None], axis=1)[:, 0]
    return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - picked))


def mean_squared_error(values: Array, targets: ArrayLike) -> float:
    """Mean of the squared differences; both of one shape."""
    targets = np.asarray(targets, np.float64)
    if targets.shape != values.shape:
        raise ArgumentError(f"labels must have the shape of the logits {values.shape}, got {targets.shape}")
    return float(np.mean((values.astype(np.float64) - targets) ** 2))


def binary_cross_entropy(logits: Array, targets: ArrayLike) -> float:
    """Mean over all classes of the binary cross-entropy between ``sigmoid(logits)`` and `targets` in 0…1."""
    targets = np.asarray(targets, np.float64)
    if targets.shape != logits.shape:
        raise ArgumentError(f"labels must have the shape of the logits {logits.shape}, got {targets.shape}")
    x = logits.astype(np.float64)
    # max(x, 0) - x·t + log(1 + e^-|x|): the form that does not overflow.
    return float(np.mean(np.maximum(x, 0) - x * targets + np.log1p(np.exp(-np.abs(x)))))


def classification_loss(logits: Array, labels: ArrayLike, problem_type: str | None) -> float:
    """Loss of a classifier; without a `problem_type`, labels decide: one class is a regression, integers are classes.

    Parameters
    ----------
    logits : Array [shape=(N, classes)]
    labels : [shape=(N,)] for regression with one output and for single labels, else (N, classes)
    problem_type : {None, "regression", "single_label_classification", "multi_label_classification"}
    """
    given: NDArray[Any] = np.asarray(labels)
    classes = logits.shape[-1]
    if problem_type is None:
        if classes == 1:
            problem_type = "regression"
        elif np.issubdtype(given.dtype, np.integer):
            problem_type = "single_label_classification"
        else:
            problem_type = "multi_label_classification"
    if problem_type == "regression":
        return (
            mean_squared_error(logits[..., 0], given.reshape(-1)) if classes == 1 else mean_squared_error(logits, given)
        )
    if problem_type == "multi_label_classification":
        return binary_cross_entropy(logits, given)
    if given.size != logits.size // classes:
        raise ArgumentError(f"labels must hold one class for each of {logits.size // classes} images, got {given.size}")
    return cross_entropy(logits, given)


def segmentation_loss(logits: Array, labels: ArrayLike, ignore_index: int) -> float:
    """Mean cross-entropy over all pixels other than `ignore_index`, with the logits resized to the labels' size.

    The resize is bilinear in the half-pixel convention, as in transformers. NaN if every pixel is ignored.

    Parameters
    ----------
    logits : Array [shape=(N, h, w, classes)]
    labels : integers [shape=(N, H, W)]
    ignore_index : int

    Raises
    ------
    ValueError, TypeError
        If labels are not integers, lie out of range or are not one map per image.
    """
    given = np.asarray(labels)
    if not np.issubdtype(given.dtype, np.integer):
        raise ArgumentTypeError(f"labels must be integers, got {given.dtype}")
    if given.ndim != 3 or len(given) != len(logits):
        raise ArgumentError(f"labels must have the shape (N, height, width) with N = {len(logits)}, got {given.shape}")
    total, count = 0.0, 0
    for image, wanted in zip(logits, given):
        size = (wanted.shape[0], wanted.shape[1])
        grid = Grid.resize((image.shape[0], image.shape[1]), size, "half_pixel")
        for rows, scores in sampled(image, grid):
            counted = int(np.count_nonzero(wanted[rows] != ignore_index))
            if counted:
                total += counted * cross_entropy(scores, wanted[rows], ignore_index)
                count += counted
    return total / count if count else float("nan")
