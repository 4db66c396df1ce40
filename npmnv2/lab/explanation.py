"""A layer explained: its definition as code that runs, shapes, costs, what it sees, and its values on a photo."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from npmnv2.errors import ArgumentError
from npmnv2.kernels import Array
from npmnv2.lab.definitions import definition, node_at, parts_at
from npmnv2.network.layers import InvertedResidual, Shape
from npmnv2.network.plan import Part, Plan, batch_norm_name
from npmnv2.network.receptive_field import Field, receptive_fields
from npmnv2.results.feature_maps import map_grid
from npmnv2.results.tables import percent
from npmnv2.results.trace import TraceSummary


@dataclass(frozen=True, eq=False)
class LayerExplanation:
    """What can be said of one endpoint of a model.

    Attributes
    ----------
    name : str
    kind : str
        The layer's class in words.
    aliases : tuple of str
    inputs : dict of str to tuple of int
        Names and shapes of what it takes: (height, width, channels).
    output : tuple of int
        Its own shape.
    parameters, multiply_adds : int
        As `plan.table` counts them.
    share : float
        Of the network's multiply-adds, 0…1.
    receptive_field : Field
        What it sees of the image.
    code : str
        Python that defines a function with the layer's name, of its inputs (N, H, W, C) and
        ``model.folded_weights()``.
    summary : TraceSummary or None
        Of its values on a photo, if one was given: of its parts, too, if it is a block.
    value : Array [shape=(H, W, C) or (C,)] or None
        Its values on the photo.
    """

    name: str
    kind: str
    aliases: tuple[str, ...]
    inputs: dict[str, Shape]
    output: Shape
    parameters: int
    multiply_adds: int
    share: float
    receptive_field: Field
    code: str
    summary: TraceSummary | None = None
    value: Array | None = field(default=None, repr=False)

    def __str__(self) -> str:
        inputs = ", ".join(f"{_shape(shape)} ({name})" for name, shape in self.inputs.items())
        lines = [
            f"{self.name}: {self.kind}",
            f"  also called      {', '.join(self.aliases) or '–'}",
            f"  takes            {inputs}",
            f"  gives            {_shape(self.output)}",
            f"  parameters       {self.parameters:,}",
            f"  multiply-adds    {self.multiply_adds:,} ({percent(self.share)} of the network)",
            f"  receptive field  {self.receptive_field}",
        ]
        values = [str(self.summary)] if self.summary else []
        return "\n\n".join(["\n".join(lines), self.code.rstrip(), *values])

    def picture(self) -> Any:
        """The channels on the photo, side by side, as a `PIL.Image.Image`.

        Raises
        ------
        ArgumentError
            If there was no photo, or the value has no height and width.
        """
        if self.value is None:
            raise ArgumentError(f"{self.name} needs a photo to be shown")
        if self.value.ndim != 3:
            raise ArgumentError(f"{self.name} has no map to be shown: its shape is {_shape(self.output)}")
        return map_grid(self.value)


def explain_layer(model: Any, name: str, photo: Any = None) -> LayerExplanation:
    """Explain one endpoint of a model.

    Parameters
    ----------
    model
        Any model of npmnv2.
    name : str
        An endpoint's name or an alias: a block, or a part of one.
    photo, optional
        As `predict` takes it; the values are those of this photo. Without one, sizes are those of the model's input.

    Raises
    ------
    ArgumentError
        If there is no such endpoint.
    """
    plan: Plan = model.plan
    name, parts = plan.resolve(name), parts_at(plan, name)
    x = None if photo is None else model.prepare([photo])
    size = model.processor.output_size(model.config.image_size) if x is None else x.shape[1:3]
    shapes = plan.shapes(*size)
    cost = sum(part.layer.multiply_adds(*(shapes[source] for source in part.inputs)) for part in parts)
    trace = None if x is None else model.trace(x, dict.fromkeys([*(part.name for part in parts), name]))
    own = {part.name for part in parts}
    return LayerExplanation(
        name,
        _kind(plan, name, parts),
        tuple(alias for alias, target in plan.aliases.items() if target == name),
        {source: shapes[source] for part in parts for source in part.inputs if source not in own},
        shapes[name],
        _parameters(plan, parts),
        cost,
        cost / plan.multiply_adds(*size),
        receptive_fields(plan)[name],
        definition(plan, name, *size),
        None if trace is None else trace.summary(),
        None if trace is None else trace[name][0],
    )


def _kind(plan: Plan, name: str, parts: tuple[Part, ...]) -> str:
    layer = node_at(plan, name).layer
    if isinstance(layer, InvertedResidual) and len(parts) > 1:
        words = " → ".join(part.name.rpartition("_")[2] for part in parts)
        return f"inverted residual ({words})"
    return _WORDS[type(parts[0].layer).__name__]


_WORDS = {
    "Conv": "convolution",
    "Depthwise": "depthwise convolution",
    "Add": "residual connection",
    "Concat": "concatenation",
    "ConcatRows": "table of predictions",
    "GlobalAveragePool": "global average pooling",
    "AveragePool": "average pooling",
    "Dense": "dense layer",
    "ResizeLike": "bilinear resize",
}


def _parameters(plan: Plan, parts: tuple[Part, ...]) -> int:
    layers = {name for part in parts for name in (part.name, batch_norm_name(part.name))}
    sizes = {name: shape for name, shape in plan.parameter_shapes().items() if name.rpartition("/")[0] in layers}
    return sum(map(math.prod, sizes.values()))


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape))
