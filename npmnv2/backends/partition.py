"""Which layers the compiled kernels cover, and how a schedule is cut into what they run and what NumPy runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from npmnv2.network.activations import Function, activation
from npmnv2.network.layers import AnyLayer, Conv, Depthwise, InvertedResidual
from npmnv2.network.plan import Node, Schedule


def is_compiled(layer: AnyLayer) -> bool:
    """Whether compiled kernels cover a layer, but for a function after it: 3×3 depthwise, no dilated convolution."""
    if isinstance(layer, InvertedResidual):
        return all(is_compiled(part) for part in layer.parts().values())
    if isinstance(layer, Depthwise):
        return layer.kernel == 3
    return not isinstance(layer, Conv) or layer.kernel == 1 or layer.dilation == 1


def function_after(layer: AnyLayer) -> Function | None:
    """The activation of a layer where it is not a clip, which kernels apply themselves."""
    return activation(layer.activation).function if isinstance(layer, (Conv, Depthwise)) else None


def has_functions_inside(layer: AnyLayer) -> bool:
    """Whether a layer is a block that cannot run as one, since a function follows one of its parts."""
    return isinstance(layer, InvertedResidual) and any(function_after(part) for part in layer.parts().values())


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
    function : callable or None
        What becomes of the last node's value after a program has run.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compiled: bool
    function: Function | None = None


def _covers_floats(node: Node) -> bool:
    return is_compiled(node.layer)


def partition(schedule: Schedule, covers: Callable[[Node], bool] = _covers_floats) -> list[Subgraph]:
    """Cut a schedule, whose blocks have no functions inside, into subgraphs, as few as possible.

    Parameters
    ----------
    schedule : Schedule
    covers : callable
        Tells whether compiled kernels cover a node; those for floats if not given.
    """
    groups: list[list[Node]] = []
    for node in schedule.nodes:
        if groups and _may_follow(groups[-1][-1], node, covers):
            groups[-1].append(node)
        else:
            groups.append([node])
    return [_subgraph(groups, position, schedule, covers) for position in range(len(groups))]


def _may_follow(last: Node, node: Node, covers: Callable[[Node], bool]) -> bool:
    return covers(last) and covers(node) and function_after(last.layer) is None


def _subgraph(
    groups: Sequence[Sequence[Node]], position: int, schedule: Schedule, covers: Callable[[Node], bool]
) -> Subgraph:
    nodes = groups[position]
    made = dict.fromkeys(node.name for node in nodes)
    read = dict.fromkeys(name for node in nodes for name in node.inputs)
    wanted = set(schedule.results.values())
    wanted.update(name for group in groups[position + 1 :] for node in group for name in node.inputs)
    compiled = covers(nodes[0])
    return Subgraph(
        nodes=tuple(nodes),
        inputs=tuple(name for name in read if name not in made),
        outputs=tuple(name for name in made if name in wanted),
        compiled=compiled,
        function=function_after(nodes[-1].layer) if compiled else None,
    )
