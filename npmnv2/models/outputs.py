"""What models return: transformers' output classes on NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from npmnv2.kernels import Array


class ModelOutput:
    """Values by attribute, by key and, leaving out what is None, by position."""

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


@dataclass(repr=False)
class BaseModelOutputWithPoolingAndNoAttention(ModelOutput):
    """Output of `MobileNetV2Model`.

    Attributes
    ----------
    last_hidden_state : Array [shape=(N, C, H, W)] or None
        Output of the last convolution; None if the run stopped before it.
    pooler_output : Array [shape=(N, C)] or None
        Its mean over all pixels.
    hidden_states : tuple of Array or None
        What `output_hidden_states` asked for.
    """

    last_hidden_state: Array | None = None
    pooler_output: Array | None = None
    hidden_states: tuple[Array, ...] | None = None


@dataclass(repr=False)
class ImageClassifierOutputWithNoAttention(ModelOutput):
    """Output of `MobileNetV2ForImageClassification`.

    Attributes
    ----------
    loss : float or None
        Given labels only.
    logits : Array [shape=(N, num_labels)] or None
        Scores before softmax; None if the run stopped before them.
    hidden_states : tuple of Array or None
    """

    loss: float | None = None
    logits: Array | None = None
    hidden_states: tuple[Array, ...] | None = None


@dataclass(repr=False)
class SemanticSegmenterOutput(ModelOutput):
    """Output of `MobileNetV2ForSemanticSegmentation`.

    Attributes
    ----------
    loss : float or None
        Given labels only.
    logits : Array [shape=(N, num_labels, H, W)] or None
        At the output stride's resolution, before softmax.
    hidden_states : tuple of Array or None
    attentions : None
        The network has none; the name is transformers'.
    """

    loss: float | None = None
    logits: Array | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: None = None
