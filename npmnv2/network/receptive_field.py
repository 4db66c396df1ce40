"""How much of the image a value sees, which follows from kernels, strides and dilations alone.

Source: Araujo, Norris and Sim, *Computing Receptive Fields of Convolutional Neural Networks* (Distill, 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from npmnv2.network.layers import AveragePool, Conv, Depthwise, GlobalAveragePool, ResizeLike
from npmnv2.network.plan import IMAGE, Part, Plan, parts_of


class Field(NamedTuple):
    """What one pixel of a map sees.

    Attributes
    ----------
    size : int or None
        Side of the square in pixels of the image; None for all of it.
    stride : float or None
        Pixels of the image from one pixel of the map to the next; None where there is only one.
    """

    size: int | None
    stride: float | None

    def __str__(self) -> str:
        if self.size is None:
            return "the whole image"
        return f"{self.size}×{self.size} pixels, one every {self.stride:g}"


_WHOLE = Field(None, None)


def receptive_fields(plan: Plan) -> dict[str, Field]:
    """The receptive field of every value: nodes, parts of blocks, and the image itself.

    The field of a value at the border reaches beyond the image, into its padding.
    """
    fields = {IMAGE: Field(1, 1)}
    for node in plan.nodes:
        for part in parts_of(node):
            fields[part.name] = _field(part, [fields[name] for name in part.inputs])
        fields[node.name] = fields[part.name]
    return fields


def _field(part: Part, sources: Sequence[Field]) -> Field:
    rule: Callable[[Any, Sequence[Field]], Field] = _RULES.get(type(part.layer), _largest)
    return rule(part.layer, sources)


def _largest(layer: Any, sources: Sequence[Field]) -> Field:
    """Layers that work pixel by pixel see what their inputs see."""
    sizes = [field.size for field in sources]
    stride = next((field.stride for field in sources if field.stride is not None), None)
    return Field(None if None in sizes else max(size for size in sizes if size is not None), stride)


def _windowed(layer: Conv | Depthwise, sources: Sequence[Field]) -> Field:
    return _slid(sources[0], (layer.kernel - 1) * layer.dilation, layer.stride)


def _average_pool(layer: AveragePool, sources: Sequence[Field]) -> Field:
    return _slid(sources[0], layer.window - 1, layer.stride)


def _slid(source: Field, reach: int, stride: int) -> Field:
    """After a window that reaches over `reach` further pixels of its input."""
    if source.size is None or source.stride is None:
        return source
    return Field(source.size + math.ceil(reach * source.stride), source.stride * stride)


def _resize_like(layer: ResizeLike, sources: Sequence[Field]) -> Field:
    """A pixel between two of the source sees what both see."""
    source, target = sources
    if source.size is None or source.stride is None:
        return Field(source.size, target.stride)
    return Field(source.size + math.ceil(source.stride), target.stride)


_RULES: dict[type[Any], Callable[..., Field]] = {
    Conv: _windowed,
    Depthwise: _windowed,
    AveragePool: _average_pool,
    GlobalAveragePool: lambda layer, sources: _WHOLE,
    ResizeLike: _resize_like,
}
