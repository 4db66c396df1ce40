"""A network as a tuple of named nodes, and what can be said of it before a single number is multiplied.

A node's name is its Keras layer name and the first half of its weights' names, so loading weights is a comparison of
sets and comparing two networks is a comparison of dictionaries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from npmnv2.errors import ArgumentError
from npmnv2.network.layers import AnyLayer, Conv, Depthwise, InvertedResidual, Shape, SimpleLayer

IMAGE = "image"
# Pixels a side; only shapes are computed of it.
LARGE_IMAGE = 1 << 20
BATCH_NORM_VARIABLES = ("gamma", "beta", "moving_mean", "moving_variance")


class Node(NamedTuple):
    """A layer, its name, and the names of the nodes (or `IMAGE`) whose results it takes."""

    name: str
    layer: AnyLayer
    inputs: tuple[str, ...]


class Part(NamedTuple):
    """A node that is not composite: what a backend runs one by one."""

    name: str
    layer: SimpleLayer
    inputs: tuple[str, ...]


class Row(NamedTuple):
    """One line of `Plan.table`."""

    name: str
    output_shape: Shape
    parameters: int
    multiply_adds: int


class Schedule(NamedTuple):
    """The nodes that some outputs need.

    Attributes
    ----------
    nodes : tuple of Node
        In order, ending with the last one that an output needs. A block whose inside is an output stands here as its
        parts.
    results : dict
        For every output, the name of the node that makes it.
    """

    nodes: tuple[Node, ...]
    results: dict[str, str]

    def last_uses(self) -> dict[str, int]:
        """For every value, the position of the last node that reads it."""
        return {name: position for position, node in enumerate(self.nodes) for name in node.inputs}

    def shapes(self, image: Shape) -> dict[str, Shape]:
        """Shape of every value for one image (height, width, channels)."""
        return _shapes(self.nodes, image)


def batch_norm_name(layer: str) -> str:
    """Name of the batch norm that follows the convolution `layer`, in Keras's naming."""
    return {"Conv1": "bn_Conv1", "Conv_1": "Conv_1_bn"}.get(layer, f"{layer}_BN")


def parts_of(node: Node) -> tuple[Part, ...]:
    """The parts of a node: several for an inverted residual, one for all others."""
    if not isinstance(node.layer, InvertedResidual):
        return (Part(node.name, node.layer, node.inputs),)
    parts: list[Part] = []
    previous = node.inputs
    for word, layer in node.layer.parts().items():
        inputs = (*previous, *node.inputs) if word == "add" else previous
        parts.append(Part(f"{node.name}_{word}", layer, inputs))
        previous = (parts[-1].name,)
    return tuple(parts)


def multiply_adds(node: Node, shapes: Mapping[str, Shape]) -> int:
    """Multiply-adds of a node for one image, given the shapes of its inputs and of the values inside it."""
    return sum(part.layer.multiply_adds(*(shapes[name] for name in part.inputs)) for part in parts_of(node))


def _shapes(nodes: Sequence[Node], image: Shape) -> dict[str, Shape]:
    shapes = {IMAGE: image}
    for node in nodes:
        for part in parts_of(node):
            shapes[part.name] = part.layer.output_shape(*(shapes[name] for name in part.inputs))
        shapes[node.name] = shapes[part.name]
    return shapes


@dataclass(frozen=True, repr=False)
class Plan:
    """A network.

    Attributes
    ----------
    nodes : tuple of Node
        In an order in which they can run.
    channels : int
        Channels of the input image.
    aliases : dict
        Further names of nodes and parts, such as slim's ``layer_15/expansion_output``.
    """

    nodes: tuple[Node, ...]
    channels: int = 3
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        span = f" from {self.nodes[0].name} to {self.nodes[-1].name}" if self.nodes else ""
        return f"<Plan of {len(self.nodes)} nodes{span}, {self.channels} channels in>"

    def until(self, name: str) -> Plan:
        """The plan cut off after the node called `name`."""
        last = [node.name for node in self.nodes].index(name)
        kept = Plan(self.nodes[: last + 1], self.channels)
        known = {*kept.endpoints}
        return replace(kept, aliases={alias: target for alias, target in self.aliases.items() if target in known})

    def parts(self) -> Iterator[Part]:
        """All nodes with every inverted residual opened."""
        for node in self.nodes:
            yield from parts_of(node)

    @cached_property
    def endpoints(self) -> tuple[str, ...]:
        """Names of all values that a run can return, in the order in which they are computed."""
        names: list[str] = []
        for node in self.nodes:
            parts = parts_of(node)
            names += [part.name for part in parts]
            if len(parts) > 1:
                names.append(node.name)
        return tuple(names)

    def shapes(self, height: int, width: int) -> dict[str, Shape]:
        """Shape of every value for an input of this size, parts of blocks included."""
        return _shapes(self.nodes, (height, width, self.channels))

    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of every array that a file holds for this network, batch norms not folded."""
        # The sizes of kernels do not depend on that of the image, which need only be larger than any pooling window.
        shapes = self.shapes(LARGE_IMAGE, LARGE_IMAGE)
        found: dict[str, Shape] = {}
        for name, layer, inputs in self.parts():
            for variable, shape in layer.parameter_shapes(*(shapes[i] for i in inputs)).items():
                found[f"{name}/{variable}"] = shape
            if isinstance(layer, (Conv, Depthwise)) and layer.norm is not None:
                for variable in BATCH_NORM_VARIABLES:
                    found[f"{batch_norm_name(name)}/{variable}"] = (shapes[name][-1],)
        return found

    def table(self, height: int = 224, width: int | None = None) -> list[Row]:
        """Output shape, parameters and multiply-adds of every node (one line a block) for one image of this size.

        Parameters are counted as Keras counts them, the running statistics of batch norms included.
        """
        shapes = self.shapes(height, width or height)
        counts: dict[str, int] = {}
        for name, shape in self.parameter_shapes().items():
            layer = name.rpartition("/")[0]
            counts[layer] = counts.get(layer, 0) + _size(shape)
        rows = []
        for node in self.nodes:
            parts = parts_of(node)
            parameters = sum(counts.get(p.name, 0) + counts.get(batch_norm_name(p.name), 0) for p in parts)
            rows.append(Row(node.name, shapes[node.name], parameters, multiply_adds(node, shapes)))
        return rows

    def multiply_adds(self, height: int = 224, width: int | None = None) -> int:
        """Multiply-adds for one image of this size."""
        return sum(row.multiply_adds for row in self.table(height, width))

    def resolve(self, name: str) -> str:
        """The endpoint that `name` means: an endpoint's own name, or one of the aliases.

        Raises
        ------
        ValueError
            If there is none, with the nearest names.
        """
        name = self.aliases.get(name, name)
        known = self.endpoints
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, [*known, *self.aliases], 3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ArgumentError(f"endpoint (={name!r}) must be one of {', '.join(known)} or an alias{hint}")
        return name

    def schedule(self, outputs: Sequence[str], must_open: Callable[[Node], bool] = lambda node: False) -> Schedule:
        """The nodes that `outputs` (endpoint names or aliases) need, and no others.

        A block stands there as its parts if an output is inside it, or if `must_open` says so.
        """
        wanted = {name: self.resolve(name) for name in outputs}
        nodes, renamed = _open_blocks(self.nodes, set(wanted.values()), must_open)
        results = {name: renamed.get(endpoint, endpoint) for name, endpoint in wanted.items()}
        return Schedule(_prune(_rename_inputs(nodes, renamed), set(results.values())), results)


# The last part of a block and the block itself make the same value, and a schedule holds only one of them.


def _open_blocks(
    nodes: Sequence[Node], wanted: set[str], must_open: Callable[[Node], bool]
) -> tuple[list[Node], dict[str, str]]:
    """Replace blocks whose inside is read or wanted by their parts; return new names of values that changed theirs."""
    read = wanted.union(*(node.inputs for node in nodes))
    opened: list[Node] = []
    renamed: dict[str, str] = {}
    for node in nodes:
        *inside, last = parts_of(node)
        if read & {part.name for part in inside} or (isinstance(node.layer, InvertedResidual) and must_open(node)):
            opened += [Node(*part) for part in (*inside, last)]
            renamed[node.name] = last.name
        else:
            opened.append(node)
            renamed[last.name] = node.name
    return opened, renamed


def _rename_inputs(nodes: Sequence[Node], renamed: Mapping[str, str]) -> list[Node]:
    return [node._replace(inputs=tuple(renamed.get(name, name) for name in node.inputs)) for node in nodes]


def _prune(nodes: Sequence[Node], wanted: set[str]) -> tuple[Node, ...]:
    """The nodes that are wanted, and those that they need."""
    needed = set(wanted)
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))


def _size(shape: Shape) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
