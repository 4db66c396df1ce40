"""What models return: transformers' output classes on NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from npmnv2.kernels import Array


class ModelOutput:
    """Values by attribute, by key and by position. Positions leave out what is None."""

    def items(self) -> list[tuple[str, Any]]:
        """Names and values, without those that are None."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return [(name, value) for name, value in pairs if value is not None]

    def keys(self) -> list[str]:
        """Names of the values that are not None."""
        return [name for name, _ in self.items()]

    def values(self) -> list[Any]:
        """The values that are not None."""
        return [value for _, value in self.items()]

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that are not None, as a tuple."""
        return tuple(self.values())

    def __getitem__(self, key: str | int | slice) -> Any:
        """Value by name or by position."""
        return dict(self.items())[key] if isinstance(key, str) else self.to_tuple()[key]

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, as over a dictionary."""
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.items())

    def __repr__(self) -> str:
        """Names, types and shapes; no values."""
        return f"{type(self).__name__}({', '.join(f'{name}={_describe(value)}' for name, value in self.items())})"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"{len(value)} arrays" if isinstance(value, tuple) else repr(value)


@dataclass(repr=False)
class BaseModelOutputWithPoolingAndNoAttention(ModelOutput):
    """Output of `MobileNetV2Model`.

    Attributes
    ----------
    last_hidden_state : Array [shape=(N, C, H, W)]
        Output of the last convolution.
    pooler_output : Array [shape=(N, C)]
        Its mean over all pixels.
    hidden_states : tuple of Array or None
        Where `output_hidden_states` asked for them.
    """

    last_hidden_state: Array
    pooler_output: Array
    hidden_states: tuple[Array, ...] | None = None


@dataclass(repr=False)
class ImageClassifierOutputWithNoAttention(ModelOutput):
    """Output of `MobileNetV2ForImageClassification`.

    Attributes
    ----------
    loss : float or None
        Given labels only.
    logits : Array [shape=(N, num_labels)]
        Scores before softmax.
    hidden_states : tuple of Array or None
        Where `output_hidden_states` asked for them.
    """

    loss: float | None
    logits: Array
    hidden_states: tuple[Array, ...] | None = None


@dataclass(repr=False)
class SemanticSegmenterOutput(ModelOutput):
    """Output of `MobileNetV2ForSemanticSegmentation`.

    Attributes
    ----------
    loss : float or None
        Given labels only.
    logits : Array [shape=(N, num_labels, H, W)]
        At the output stride's resolution, before softmax.
    hidden_states : tuple of Array or None
        Where `output_hidden_states` asked for them.
    attentions : None
        The network has none; the name is transformers'.
    """

    loss: float | None
    logits: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: None = None


@dataclass(repr=False)
class ObjectDetectionOutput(ModelOutput):
    """Output of `MobileNetV2ForObjectDetection`.

    Attributes
    ----------
    logits : Array [shape=(N, anchors, columns)]
        Of every anchor and class, before sigmoid or softmax; the first column is the background where there is one.
    pred_boxes : Array [shape=(N, anchors, 4)]
        Decoded, not clipped: (center x, center y, width, height), in parts of the input's sides.
    scores : Array [shape=(N, anchors, classes)]
        0…1, of every class but the background.
    hidden_states : tuple of Array or None
        Where `output_hidden_states` asked for them.
    """

    logits: Array
    pred_boxes: Array
    scores: Array
    hidden_states: tuple[Array, ...] | None = None


@dataclass(repr=False)
class HiddenStatesOutput(ModelOutput):
    """Output of any model that was asked for certain hidden states: these alone, for the run stops at the last one.

    Attributes
    ----------
    hidden_states : tuple of Array [shape=(N, C, H, W)]
        In the order in which `output_hidden_states` lists them.
    """

    hidden_states: tuple[Array, ...]
