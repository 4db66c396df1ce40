"""The steps from a photo's pixels to a network's input, and where on the input the photo ends up.

A step is a frozen record of numbers. Called with pixels (height, width, channels), it returns new ones. `place` follows
the photo's position from the sizes alone. `processor.MobileNetV2ImageProcessor` chains steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import ImageError
from npmnv2.images.loading import MAX_PIXELS, Pixels
from npmnv2.kernels import Variant, lerp, linear_weights

Pair = tuple[int, int]

# Pillow's numbers of the filters that are named here, `PIL.Image.Resampling`.
NEAREST, LANCZOS, BILINEAR = 0, 1, 2


class Placement(NamedTuple):
    """Where a photo lies on the network's input, so that a mask can be carried back to it.

    A point of the photo at (row, column), counted in pixels from its upper left corner, lies on the input at
    ``point * scale + offset``. Parts beyond the input were cut off; input beyond the photo is padding.

    Attributes
    ----------
    photo : (height, width) of the photo
    size : (height, width) of the input
    scale : (vertical, horizontal), input pixels per photo pixel
    offset : (row, column) of the photo's upper left corner on the input
    """

    photo: Pair
    size: Pair
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def content(self) -> tuple[slice, slice]:
        """Rows and columns of the input that show the photo and not padding."""
        starts = [max(0, round(offset)) for offset in self.offset]
        ends = [
            min(size, round(offset + photo * scale))
            for size, offset, photo, scale in zip(self.size, self.offset, self.photo, self.scale)
        ]
        return slice(starts[0], ends[0]), slice(starts[1], ends[1])

    def resized(self, size: Pair) -> Placement:
        """Return the placement after the input was resized to `size`."""
        by = [new / old for new, old in zip(size, self.size)]
        return self._replace(
            size=size,
            scale=(self.scale[0] * by[0], self.scale[1] * by[1]),
            offset=(self.offset[0] * by[0], self.offset[1] * by[1]),
        )

    def cropped(self, start: Pair, size: Pair) -> Placement:
        """Return the placement after a window of `size` was cut from `start` on; a negative start pads."""
        offset = (self.offset[0] - start[0], self.offset[1] - start[1])
        return self._replace(size=size, offset=offset)


class Step(Protocol):
    """One transformation of an image (height, width, channels)."""

    def __call__(self, pixels: Pixels) -> Pixels:
        """Pixels after the step; the argument is not changed."""

    def place(self, placement: Placement) -> Placement:
        """Where the photo lies after the step."""


def resized_size(size: Pair, target: Mapping[str, int]) -> Pair:
    """(height, width) of an image of `size` after a resize to `target`.

    `target` is ``{"height", "width"}`` (aspect ratio not kept), ``{"shortest_edge"}``, or ``{"max_height",
    "max_width"}`` (the largest that fits). Fractions are cut off after the same float arithmetic as in transformers.
    """
    height, width = size
    if "shortest_edge" in target:
        edge = target["shortest_edge"]
        longer = int(edge * max(size) / min(size))
        new = (longer, edge) if width <= height else (edge, longer)
    elif "max_height" in target:
        scale = min(target["max_height"] / height, target["max_width"] / width)
        new = max(1, int(height * scale)), max(1, int(width * scale))
    else:
        new = target["height"], target["width"]
    if new[0] * new[1] > MAX_PIXELS:
        raise ImageError(
            f"an image of {height} × {width} pixels would be resized to {new[0]} × {new[1]}; crop it first"
        )
    return new


@dataclass(frozen=True)
class CentralFraction:
    """Keep the central part of both axes, with the rounding of ``tf.image.central_crop``."""

    fraction: float

    def __call__(self, pixels: Pixels) -> Pixels:
        (top, left), (height, width) = self._window(pixels.shape[:2])
        return pixels[top : top + height, left : left + width]

    def place(self, placement: Placement) -> Placement:
        return placement.cropped(*self._window(placement.size))

    def _window(self, size: tuple[int, ...]) -> tuple[Pair, Pair]:
        top, left = (int((side - side * self.fraction) / 2) for side in size)
        return (top, left), (size[0] - 2 * top, size[1] - 2 * left)


@dataclass(frozen=True)
class PillowResize:
    """Resize with Pillow, which smooths when it shrinks and works on 8 bits.

    Float pixels are therefore brought to 8 bits: rounded if their range is 0…255; if it is 0…1 (`unit_range`),
    multiplied by 255, cut off and divided again afterwards, as transformers does.
    """

    target: Mapping[str, int]
    filter: int
    unit_range: bool = False

    def __call__(self, pixels: Pixels) -> Pixels:
        from PIL import Image

        height, width = resized_size((pixels.shape[0], pixels.shape[1]), self.target)
        is_float = pixels.dtype != np.uint8
        values = self._eight_bits(pixels)
        # Pillow holds one channel as an image without a channel axis.
        image = Image.fromarray(values[:, :, 0] if values.shape[-1] == 1 else values)
        resized = np.asarray(image.resize((width, height), Image.Resampling(self.filter)))
        resized = resized.reshape(height, width, -1)
        return rescale(resized, 1 / 255) if is_float and self.unit_range else resized

    def place(self, placement: Placement) -> Placement:
        return placement.resized(resized_size(placement.size, self.target))

    def _eight_bits(self, pixels: Pixels) -> Pixels:
        if pixels.dtype == np.uint8:
            return pixels
        return (rescale(pixels, 255) if self.unit_range else np.rint(pixels)).astype(np.uint8)


@dataclass(frozen=True)
class TensorFlowResize:
    """Scale to float32, then resize bilinearly as TensorFlow does: no smoothing, in one of three conventions.

    Only the pixels that the result depends on are read, so a large photo costs no more than a small one.
    """

    target: Mapping[str, int]
    variant: Variant
    factor: float = 1.0

    def __call__(self, pixels: Pixels) -> Pixels:
        height, width = resized_size((pixels.shape[0], pixels.shape[1]), self.target)
        rows = linear_weights(pixels.shape[0], height, self.variant)
        columns = linear_weights(pixels.shape[1], width, self.variant)
        # A row of pixels is one long axis: NumPy is slow where the last axis is as short as three channels.
        horizontal = np.repeat(columns.weight, pixels.shape[2])
        upper, lower = (
            lerp(self._pick(pixels, row, columns.lower), self._pick(pixels, row, columns.upper), horizontal)
            for row in (rows.lower, rows.upper)
        )
        return lerp(upper, lower, rows.weight[:, None]).reshape(height, width, -1)

    def place(self, placement: Placement) -> Placement:
        return placement.resized(resized_size(placement.size, self.target))

    def _pick(self, pixels: Pixels, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        picked = pixels.take(rows, axis=0).take(columns, axis=1).astype(np.float32)
        # TensorFlow scales the whole image first; scaling only what is read gives the same bits.
        picked *= np.float32(self.factor)
        return picked.reshape(len(rows), -1)


@dataclass(frozen=True)
class CenterCrop:
    """Cut `size` from the middle; an axis that is shorter gets zeros around it."""

    size: Pair

    def __call__(self, pixels: Pixels) -> Pixels:
        for axis, length in enumerate(self.size):
            start = self._start(pixels.shape[axis], length)
            if start >= 0:
                pixels = pixels[start : start + length] if axis == 0 else pixels[:, start : start + length]
            else:
                padding = [(0, 0)] * 3
                padding[axis] = (-start, length - pixels.shape[axis] + start)
                pixels = np.pad(pixels, padding)
        return pixels

    def place(self, placement: Placement) -> Placement:
        top, left = (self._start(side, length) for side, length in zip(placement.size, self.size))
        return placement.cropped((top, left), self.size)

    @staticmethod
    def _start(side: int, length: int) -> int:
        # Rounds down, also below zero: with an odd surplus the crop and the padding both lean the same way as in
        # transformers.
        return (side - length) // 2


@dataclass(frozen=True)
class PadAfter:
    """Pad at the bottom and on the right up to `size`."""

    size: Pair
    value: float

    def __call__(self, pixels: Pixels) -> Pixels:
        height, width, channels = pixels.shape
        self._check(height, width)
        # 8 bits cannot hold a value such as 127.5.
        dtype = pixels.dtype if float(self.value).is_integer() else np.result_type(pixels.dtype, np.float32)
        out = np.full((*self.size, channels), self.value, dtype)
        out[:height, :width] = pixels
        return out

    def place(self, placement: Placement) -> Placement:
        self._check(*placement.size)
        return placement.cropped((0, 0), self.size)

    def _check(self, height: int, width: int) -> None:
        if height > self.size[0] or width > self.size[1]:
            raise ImageError(
                f"pad_size (={self.size[0]} × {self.size[1]}) must be at least the size of the image, "
                f"got {height} × {width}"
            )


@dataclass(frozen=True)
class Scale:
    """``(pixels * factor - mean) / std``; None leaves a part out."""

    factor: float | None = None
    mean: tuple[float, ...] | float | None = None
    std: tuple[float, ...] | float | None = None

    def __call__(self, pixels: Pixels) -> Pixels:
        if self.factor is not None:
            pixels = rescale(pixels, self.factor)
        if self.mean is None or self.std is None:
            return pixels
        floats = pixels if np.issubdtype(pixels.dtype, np.floating) else pixels.astype(np.float32)
        # In the image's own precision, which also is that of mean and std: the arithmetic of transformers.
        result: Pixels = floats.reshape(len(floats), -1) - self._per_entry(self.mean, floats)
        result /= self._per_entry(self.std, floats)
        return result.reshape(floats.shape)

    def place(self, placement: Placement) -> Placement:
        return placement

    @staticmethod
    def _per_entry(values: tuple[float, ...] | float, pixels: Pixels) -> Pixels:
        """One value for every entry of a row of pixels."""
        if isinstance(values, tuple) and len(values) != pixels.shape[-1]:
            raise ImageError(
                f"image_mean and image_std (={values}) must have one entry per channel, "
                f"got an image of {pixels.shape[-1]} channels"
            )
        _, width, channels = pixels.shape
        return np.tile(np.broadcast_to(np.asarray(values, pixels.dtype), channels), width)


def rescale(pixels: Pixels, factor: float) -> NDArray[np.float32]:
    """``pixels * factor`` in double precision, rounded once to float32."""
    divisor = _divisor(factor) if pixels.dtype == np.uint8 else None
    if divisor is None:
        return _rounded_product(pixels, factor)
    # The same bits in a sixth of the time: preparing a photo takes a fifth less.
    floats: NDArray[np.float32] = pixels.astype(np.float32)
    floats /= divisor
    return floats


def _rounded_product(pixels: Pixels, factor: float) -> NDArray[np.float32]:
    product: NDArray[Any] = np.multiply(pixels, np.float64(factor), dtype=np.float64)
    return product.astype(np.float32)


@cache
def _divisor(factor: float) -> np.float32 | None:
    """A number by which every byte can be divided in float32 instead; None if that changes a bit, as it rarely does."""
    every_byte = np.arange(256, dtype=np.uint8)
    with np.errstate(all="ignore"):
        divisor = np.float32(1 / np.float64(factor))
        quotients = every_byte.astype(np.float32) / divisor
    return divisor if np.array_equal(quotients, _rounded_product(every_byte, factor)) else None
