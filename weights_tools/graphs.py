"""A network as writers of graphs take it: its parts in order, folded weights, and the shape of every value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from npmnv2.errors import WeightsError
from npmnv2.images.processor import MobileNetV2ImageProcessor
from npmnv2.kernels import Array
from npmnv2.network.architecture import LAST_CONV, POOL, attach
from npmnv2.network.layers import Conv, Dense, Depthwise, GlobalAveragePool, Shape
from npmnv2.network.plan import Node, Part, Plan
from npmnv2.network.quantization import value_parts
from npmnv2.weights.assemble import plan_for
from npmnv2.weights.checkpoint import Checkpoint, FoldedWeights

Emitted = TypeVar("Emitted")


@dataclass(frozen=True)
class Network:
    """A network at the size that its photos are prepared for.

    Attributes
    ----------
    parts : tuple of Part
        In an order in which they can run.
    weights : mapping of str to Array
        Batch norms folded; kernels in the layouts of weight files.
    shapes : dict of str to Shape
        Of one image and of every part's result: (height, width, channels), or (channels,).
    """

    parts: tuple[Part, ...]
    weights: Mapping[str, Array]
    shapes: Mapping[str, Shape]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The values that no part takes."""
        taken = {name for part in self.parts for name in part.inputs}
        return tuple(part.name for part in self.parts if part.name not in taken)

    def kernel_and_bias(self, part: Part) -> tuple[Array, Array]:
        """Kernel (height, width, in, out), depthwise (height, width, channels, 1) or dense (in, out), and bias."""
        assert isinstance(part.layer, (Conv, Depthwise, Dense))
        shape = part.layer.parameter_shapes(*(self.shapes[name] for name in part.inputs))["kernel"]
        return self.weights[f"{part.name}/kernel"].reshape(shape), self.weights[f"{part.name}/bias"]


def network_of(checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint, which ends in logits; in pooled features where there is no classifier.

    Raises
    ------
    WeightsError
        If the checkpoint has no configuration or is quantized.
    """
    if checkpoint.config is None or checkpoint.quantization is not None:
        raise WeightsError("checkpoint must have a configuration and weights of real numbers to be written as a graph")
    plan = _with_pool(plan_for(checkpoint.config, checkpoint.weights))
    parts = tuple(value_parts(plan))
    return Network(parts, FoldedWeights(plan, checkpoint.weights), plan.shapes(*input_size(checkpoint)))


def _with_pool(plan: Plan) -> Plan:
    is_bare = plan.nodes[-1].name == LAST_CONV
    return attach(plan, Node(POOL, GlobalAveragePool(), (LAST_CONV,))) if is_bare else plan


def processor_of(checkpoint: Checkpoint) -> MobileNetV2ImageProcessor:
    """How photos are prepared for a checkpoint's network."""
    assert checkpoint.config is not None
    return MobileNetV2ImageProcessor.from_preprocessing(checkpoint.preprocessing, checkpoint.config.image_size)


def input_size(checkpoint: Checkpoint) -> tuple[int, int]:
    """Height and width of what the preprocessing makes of photos."""
    assert checkpoint.config is not None
    return processor_of(checkpoint).output_size(checkpoint.config.image_size)


def entry_of(table: Mapping[Any, Emitted], what: Any, part: Part, file_format: str) -> Emitted:
    """What a format's table has for a layer or an activation.

    Raises
    ------
    WeightsError
        If the format cannot express it, with the name of the layer.
    """
    try:
        return table[what]
    except (KeyError, TypeError):
        raise WeightsError(
            f"{part.name} has {_word(what)}, which a file for {file_format} cannot hold: it takes "
            f"{', '.join(map(_word, table))}; write native .h5 instead"
        ) from None


def _word(entry: Any) -> str:
    return str(getattr(entry, "__name__", entry))
