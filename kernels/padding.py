"""Where a window lies on an image: stride, dilation and the padding that TensorFlow or PyTorch would use.

This file holds the only implementation of TensorFlow's SAME padding in the project. Kernels never see the words "same"
or "valid": they get the numbers of a `Geometry`.
"""

from __future__ import annotations

from typing import NamedTuple

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """Stride, dilation and explicit padding of a two-dimensional window.

    Attributes
    ----------
    stride, dilation : int
        The same for both axes.
    padding : ((top, bottom), (left, right))
        Rows and columns of zeros around the image.
    """

    stride: int = 1
    dilation: int = 1
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> Pair:
    """Zeros before and after one axis that give ``ceil(size / stride)`` outputs, as TensorFlow places them.

    The surplus zero goes *after* the image. With an even size, kernel 3 and stride 2 this gives (0, 1), where PyTorch's
    symmetric padding gives (1, 1): the usual reason why a port of this network is almost right.

    References
    ----------
    ``tf.nn`` documentation, "Notes on padding".
    """
    reach = (kernel - 1) * dilation + 1
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def symmetric_padding(kernel: int, dilation: int = 1) -> Pair:
    """Zeros that PyTorch ports put on both sides of an axis, whatever its size."""
    before = (kernel - 1) // 2 * dilation
    return before, before


def output_size(size: int, kernel: int, stride: int, dilation: int, padding: Pair) -> int:
    """Entries of one output axis: the positions at which the dilated window fits on the padded axis."""
    return (size + sum(padding) - (kernel - 1) * dilation - 1) // stride + 1
