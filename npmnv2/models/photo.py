"""A photo on its way through `predict`, where the result is a picture of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npmnv2.images.loading import Pixels, describe, load_image
from npmnv2.images.processor import MobileNetV2ImageProcessor
from npmnv2.images.steps import Pair, Placement
from npmnv2.kernels import Array


@dataclass(frozen=True)
class Photo:
    """The pixels of a photo, and where they lie on the network's input.

    Attributes
    ----------
    pixels : array [shape=(height, width, channels)]
    placement : Placement or None
        Where it lies on the network's input; None if what the network finds is stretched over it.
    name, source : str
        For messages, and for the result (files only).
    """

    pixels: Pixels
    placement: Placement | None
    name: str
    source: str | None

    @classmethod
    def load(cls, image: Any, processor: MobileNetV2ImageProcessor, stretch: bool = False) -> Photo:
        """Read an image as `processor` does."""
        options = {"exif_orientation": processor.exif_orientation, "convert_rgb": processor.do_convert_rgb}
        pixels = load_image(image, **options)
        placement = None if stretch else processor.placement((pixels.shape[0], pixels.shape[1]))
        return cls(
            pixels, placement, describe(image), os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
        )

    @property
    def size(self) -> Pair:
        """(height, width)."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def network_input(self, processor: MobileNetV2ImageProcessor) -> Array:
        """The network's input (1, H, W, C)."""
        # A resize or padding makes an input of the narrowest photo.
        return processor.to_array([self.pixels], min_side=1)

    def rgb(self) -> NDArray[np.uint8]:
        """The photo as 8-bit RGB, to draw on."""
        return as_rgb(self.pixels)


def as_rgb(pixels: Pixels) -> NDArray[np.uint8]:
    """Pixels of any channels and type as 8-bit RGB."""
    if pixels.dtype != np.uint8:
        # Some image processors expect floats of 0…1.
        factor = 255 if pixels.max() <= 1 else 1
        pixels = np.clip(np.rint(pixels * factor), 0, 255).astype(np.uint8)
    return pixels if pixels.shape[-1] == 3 else np.repeat(pixels[..., :1], 3, axis=-1)
