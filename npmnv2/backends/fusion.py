"""The first pass of lowering: nodes that run as one operation are fused.

A rule is a function in `RULES`. It takes operations and the values that are wanted outside, and returns the operations
with every occurrence of its pattern replaced. What it makes has a layer type of its own, which stands here and in the
table of `npmnv2.backends.emission`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from npmnv2.kernels.host.target import Target
from npmnv2.network.layers import AnyLayer, Concat, Conv, GlobalAveragePool, InvertedResidual, ResizeLike
from npmnv2.network.plan import Node

# Between the names of nodes that run as one.
SEPARATOR = " + "


@dataclass(frozen=True)
class StemBlock:
    """A full convolution and the block without expansion after it, which filters its rows while they are cached."""

    conv: Conv
    block: InvertedResidual


@dataclass(frozen=True)
class BroadcastConcatConv:
    """A 1×1 convolution of a pixel that is broadcast over a map and concatenated with it: DeepLab's image pooling.

    The pixel's channels come first in each of the convolution's sums. So their products are summed up once and are the
    bias for the map's own channels: the same operations in the same order, without the broadcast or concatenated map.
    Its inputs are the pixel and the map.
    """

    conv: Conv


class Operation(NamedTuple):
    """One or more nodes that run as one.

    Attributes
    ----------
    names : tuple of str
        The nodes. The value of the last one is the operation's.
    layer : layer or fused layer
    inputs : tuple of str
    """

    names: tuple[str, ...]
    layer: AnyLayer | StemBlock | BroadcastConcatConv
    inputs: tuple[str, ...]

    @property
    def output(self) -> str:
        """Name of the value that it makes."""
        return self.names[-1]

    @property
    def label(self) -> str:
        """Its name in profiles."""
        return SEPARATOR.join(self.names)


Rule = Callable[[Sequence[Operation], Collection[str], Target], Sequence[Operation]]


def operations_of(nodes: Sequence[Node]) -> list[Operation]:
    """Every node as an operation of its own."""
    return [Operation((node.name,), node.layer, node.inputs) for node in nodes]


def fuse(
    nodes: Sequence[Node], outputs: Collection[str], target: Target, rules: Sequence[Rule] | None = None
) -> tuple[Operation, ...]:
    """The operations that compute `nodes`; the values named in `outputs` are kept. Rules are all if not given."""
    operations: Sequence[Operation] = operations_of(nodes)
    for rule in RULES if rules is None else rules:
        operations = rule(operations, outputs, target)
    return tuple(operations)


def _read_once(operations: Sequence[Operation], outputs: Collection[str]) -> set[str]:
    """Values that one operation reads and nothing else: they need not exist if that operation makes them itself."""
    readers = Counter(name for operation in operations for name in operation.inputs)
    return {name for name, count in readers.items() if count == 1 and name not in outputs}


# ---- Stem and first block --------------------------------------------------------------------------------------------


def fuse_stems(operations: Sequence[Operation], outputs: Collection[str], _: Target) -> list[Operation]:
    """Run the first convolution with the block after it."""
    hidden = _read_once(operations, outputs)
    fused: list[Operation] = []
    for operation in operations:
        if fused and fused[-1].output in hidden and _is_stem_of(fused[-1], operation):
            stem = fused.pop()
            assert isinstance(stem.layer, Conv)
            assert isinstance(operation.layer, InvertedResidual)
            layer = StemBlock(stem.layer, operation.layer)
            operation = Operation((*stem.names, *operation.names), layer, stem.inputs)
        fused.append(operation)
    return fused


def _is_stem_of(stem: Operation, block: Operation) -> bool:
    return (
        block.inputs == (stem.output,)
        and isinstance(stem.layer, Conv)
        and stem.layer.kernel > 1
        and isinstance(block.layer, InvertedResidual)
        and block.layer.expansion is None
        # The residual would be the stem's map, which is never in memory as a whole.
        and not block.layer.residual
    )


# ---- Broadcast, concatenation and convolution ------------------------------------------------------------------------


class BroadcastConcat(NamedTuple):
    """Names of the two nodes before a convolution that `BroadcastConcatConv` takes in, and of what they read."""

    broadcast: str
    concat: str
    pixel: str
    other: str


# From a convolution back along first inputs.
_BROADCAST_CONCAT = (Conv, Concat, ResizeLike, Conv, GlobalAveragePool)


def find_broadcast_concat(
    operation: Operation, producers: Mapping[str, Operation], target: Target
) -> BroadcastConcat | None:
    """The nodes that a convolution can take in, if it reads a pixel broadcast over a map and concatenated with it."""
    chain = [operation]
    while len(chain) < len(_BROADCAST_CONCAT) and chain[-1].inputs[0] in producers:
        chain.append(producers[chain[-1].inputs[0]])
    if tuple(type(link.layer) for link in chain) != _BROADCAST_CONCAT:
        return None
    conv, (_, concat, broadcast, pixel, _) = operation.layer, chain
    assert isinstance(conv, Conv)
    assert isinstance(pixel.layer, Conv)
    # A sum can be a bias where it needs no padding to whole vectors.
    fills_vectors = conv.filters % target.lanes == 0 and pixel.layer.filters % target.word_channels == 0
    if conv.kernel != 1 or conv.stride != 1 or len(concat.inputs) != 2 or not fills_vectors:
        return None
    return BroadcastConcat(broadcast.output, concat.output, pixel.output, concat.inputs[1])


def _fuse_broadcast_concats(
    operations: Sequence[Operation], outputs: Collection[str], target: Target
) -> list[Operation]:
    producers = {operation.output: operation for operation in operations}
    hidden = _read_once(operations, outputs)
    fused = dict(producers)
    for operation in operations:
        found = find_broadcast_concat(operation, producers, target)
        if found and {found.broadcast, found.concat} <= hidden:
            assert isinstance(operation.layer, Conv)
            names = (found.broadcast, found.concat, *operation.names)
            inputs = (found.pixel, found.other)
            fused[operation.output] = Operation(names, BroadcastConcatConv(operation.layer), inputs)
            del fused[found.broadcast], fused[found.concat]
    return list(fused.values())


RULES: tuple[Rule, ...] = (fuse_stems, _fuse_broadcast_concats)
