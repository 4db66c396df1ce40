"""Layers as frozen data: hyper-parameters only, and what follows from them.

A layer knows the shape of its output (`output_shape`), those of its parameters as files hold them (`parameter_shapes`,
before folding) and the multiply-adds for one image (`multiply_adds`: multiplications that are each followed by an
addition; pools and residuals count as none). It holds no weights and does no arithmetic: backends do
(`npmnv2.backends`). All three take the shapes of the layer's inputs: (height, width, channels) of one image, as
TensorFlow orders them; after global pooling (channels,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from npmnv2.errors import ArgumentError
from npmnv2.kernels import Geometry, Variant, output_size, same_padding, symmetric_padding
from npmnv2.network.activations import Function

Shape = tuple[int, ...]

# Epsilon of the batch norm in the TensorFlow family; torchvision and DeepLab's head use 1e-5.
BATCH_NORM_EPSILON = 1e-3


class _NoParameters:
    def parameter_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {}

    def multiply_adds(self, *inputs: Shape) -> int:
        return 0


@dataclass(frozen=True)
class _Windowed:
    """A square window that slides over the image.

    Attributes
    ----------
    kernel, stride, dilation : int
    tf_padding : bool
        TensorFlow's SAME padding; False pads both sides alike, as PyTorch ports do.
    activation : str or callable
    norm : float or None
        Epsilon of the batch norm that follows and takes the place of a bias; None for a bias.
    """

    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    tf_padding: bool = True
    activation: str | Function = "relu6"
    norm: float | None = BATCH_NORM_EPSILON

    def geometry(self, height: int, width: int) -> Geometry:
        """Stride, dilation and padding on an image of this size."""
        if self.tf_padding:
            vertical, horizontal = (
                same_padding(size, self.kernel, self.stride, self.dilation) for size in (height, width)
            )
        else:
            vertical = horizontal = symmetric_padding(self.kernel, self.dilation)
        return Geometry(self.stride, self.dilation, (vertical, horizontal))

    def _output_pixels(self, height: int, width: int) -> tuple[int, int]:
        _, _, (vertical, horizontal) = self.geometry(height, width)
        return (
            output_size(height, self.kernel, self.stride, self.dilation, vertical),
            output_size(width, self.kernel, self.stride, self.dilation, horizontal),
        )


@dataclass(frozen=True)
class Conv(_Windowed):
    """Full convolution with `filters` outputs; with ``kernel=1`` a pointwise convolution."""

    filters: int = 1

    def output_shape(self, *inputs: Shape) -> Shape:
        height, width, _ = inputs[0]
        return (*self._output_pixels(height, width), self.filters)

    def parameter_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        kernel = (self.kernel, self.kernel, inputs[0][-1], self.filters)
        return {"kernel": kernel} if self.norm is not None else {"kernel": kernel, "bias": (self.filters,)}

    def multiply_adds(self, *inputs: Shape) -> int:
        return math.prod(self.output_shape(*inputs)) * self.kernel**2 * inputs[0][-1]


@dataclass(frozen=True)
class Depthwise(_Windowed):
    """Depthwise convolution: one filter per channel, none across channels."""

    def output_shape(self, *inputs: Shape) -> Shape:
        height, width, channels = inputs[0]
        return (*self._output_pixels(height, width), channels)

    def parameter_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        channels = inputs[0][-1]
        kernel = (self.kernel, self.kernel, channels, 1)
        return {"kernel": kernel} if self.norm is not None else {"kernel": kernel, "bias": (channels,)}

    def multiply_adds(self, *inputs: Shape) -> int:
        return math.prod(self.output_shape(*inputs)) * self.kernel**2


@dataclass(frozen=True)
class Add(_NoParameters):
    """Residual connection: the sum of two maps of one shape."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


@dataclass(frozen=True)
class Concat(_NoParameters):
    """Join maps of one size along their channels."""

    def output_shape(self, *inputs: Shape) -> Shape:
        height, width, _ = inputs[0]
        return height, width, sum(shape[-1] for shape in inputs)


@dataclass(frozen=True)
class ConcatRows(_NoParameters):
    """Cut the pixels of maps of several sizes into rows of `columns` numbers, and join them to one table.

    An SSD's predictions: each pixel of a map has one row for every anchor.
    """

    columns: int

    def output_shape(self, *inputs: Shape) -> Shape:
        return sum(math.prod(shape) for shape in inputs) // self.columns, self.columns


@dataclass(frozen=True)
class InvertedResidual:
    """Expand → depthwise → project, and add the input where shapes allow it (paper, section 3.3 and figure 3).

    The expansion is wide and non-linear, the projection narrow and linear. ``expansion=None`` leaves the expansion out,
    as in the network's first block.
    """

    filters: int
    expansion: int | None
    stride: int = 1
    dilation: int = 1
    residual: bool = False
    tf_padding: bool = True
    activation: str | Function = "relu6"
    norm: float = BATCH_NORM_EPSILON

    def parts(self) -> dict[str, Conv | Depthwise | Add]:
        """The layers that the block is made of, by the last word of their names."""
        shared: dict[str, Any] = {"tf_padding": self.tf_padding, "norm": self.norm}
        parts: dict[str, Conv | Depthwise | Add] = {}
        if self.expansion is not None:
            parts["expand"] = Conv(filters=self.expansion, kernel=1, activation=self.activation, **shared)
        parts["depthwise"] = Depthwise(stride=self.stride, dilation=self.dilation, activation=self.activation, **shared)
        parts["project"] = Conv(filters=self.filters, kernel=1, activation="linear", **shared)
        if self.residual:
            parts["add"] = Add()
        return parts

    def output_shape(self, *inputs: Shape) -> Shape:
        shape = inputs[0]
        for layer in self.parts().values():
            shape = layer.output_shape(shape)
        return shape


@dataclass(frozen=True)
class GlobalAveragePool(_NoParameters):
    """Mean over all pixels; with ``keep_dims`` the result stays a map of one pixel."""

    keep_dims: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        channels = inputs[0][-1]
        return (1, 1, channels) if self.keep_dims else (channels,)


@dataclass(frozen=True)
class AveragePool(_NoParameters):
    """Mean over a fixed window without padding: the 7×7 pool of the original graphs."""

    window: int
    stride: int = 1

    def output_shape(self, *inputs: Shape) -> Shape:
        height, width, channels = inputs[0]
        if min(height, width) < self.window:
            raise ArgumentError(
                f"pooling_window (={self.window}) must not be larger than the feature map, got a map of "
                f"{height}×{width}; use a larger image, a smaller window or pooling_window=None"
            )
        return (height - self.window) // self.stride + 1, (width - self.window) // self.stride + 1, channels


@dataclass(frozen=True)
class Dense:
    """The classifier: a matrix product over the channels, with a bias."""

    units: int

    def output_shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:-1], self.units)

    def parameter_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"kernel": (inputs[0][-1], self.units), "bias": (self.units,)}

    def multiply_adds(self, *inputs: Shape) -> int:
        return math.prod(self.output_shape(*inputs)) * inputs[0][-1]


@dataclass(frozen=True)
class ResizeLike(_NoParameters):
    """Resize the first map bilinearly to the height and width of the second."""

    variant: Variant = "tf1_align_corners"

    def output_shape(self, *inputs: Shape) -> Shape:
        source, target = inputs
        return target[0], target[1], source[-1]


SimpleLayer = Conv | Depthwise | Add | Concat | ConcatRows | GlobalAveragePool | AveragePool | Dense | ResizeLike
AnyLayer = SimpleLayer | InvertedResidual
