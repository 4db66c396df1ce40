"""Which layers the compiled kernels cover, and how a schedule is cut into what they run and what NumPy runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from npmnv2.network.activations import activation
from npmnv2.network.layers import AnyLayer, Conv, Depthwise, InvertedResidual
from npmnv2.network.plan import Node, Schedule


def is_compiled(layer: AnyLayer) -> bool:
    """Whether compiled kernels cover a layer: clips as activations, 3×3 depthwise, no dilated full convolution."""
    if isinstance(layer, InvertedResidual):
        return all(is_compiled(part) for part in layer.parts().values())
    if isinstance(layer, (Conv, Depthwise)) and activation(layer.activation).function is not None:
        return False
    if isinstance(layer, Depthwise):
        return layer.kernel == 3
    return not isinstance(layer, Conv) or layer.kernel == 1 or layer.dilation == 1


class Subgraph(NamedTuple):
    """Neighboring nodes of a schedule that run together.

    Attributes
    ----------
    nodes : tuple of Node
    inputs : tuple of str
        Values that nodes outside make.
    outputs : tuple of str
        Values that are results, or that nodes outside read.
    compiled : bool
        Whether it runs as one program; otherwise it is one node, and NumPy runs it.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compiled: bool


def partition(schedule: Schedule) -> list[Subgraph]:
    """Cut a schedule into subgraphs, as few as possible."""
    groups: list[list[Node]] = []
    for compiled, run in groupby(schedule.nodes, lambda node: is_compiled(node.layer)):
        nodes = list(run)
        groups += [nodes] if compiled else [[node] for node in nodes]
    return [_subgraph(groups, position, schedule) for position in range(len(groups))]


def _subgraph(groups: Sequence[Sequence[Node]], position: int, schedule: Schedule) -> Subgraph:
    nodes = groups[position]
    made = dict.fromkeys(node.name for node in nodes)
    read = dict.fromkeys(name for node in nodes for name in node.inputs)
    wanted = set(schedule.results.values())
    wanted.update(name for group in groups[position + 1 :] for node in group for name in node.inputs)
    return Subgraph(
        nodes=tuple(nodes),
        inputs=tuple(name for name in read if name not in made),
        outputs=tuple(name for name in made if name in wanted),
        compiled=is_compiled(nodes[0].layer),
    )
