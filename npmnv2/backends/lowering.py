"""From a plan to programs of compiled kernels.

Lowering decides, once per input size and set of outputs, what runs fused, where every feature map lies in one piece of
memory, and how workers share the work. Layers that no compiled kernel covers are left to the NumPy backend: the
schedule falls into *subgraphs*, each of which is either one program or one such layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from npmnv2.kernels import Array, Clip
from npmnv2.kernels.host import steps
from npmnv2.kernels.host.build import Builder, ExpandedMap, Packed, Program, Step, TensorView, external
from npmnv2.kernels.host.memory import ArenaPlanner, Bytes, Constants
from npmnv2.kernels.host.target import FLOAT_BYTES, Target
from npmnv2.network.activations import activation
from npmnv2.network.layers import (
    Add,
    AnyLayer,
    AveragePool,
    Concat,
    Conv,
    Dense,
    Depthwise,
    GlobalAveragePool,
    InvertedResidual,
    ResizeLike,
    Shape,
)
from npmnv2.network.plan import Node, Plan, Schedule

Weights = Mapping[str, Array]
Shapes = Mapping[str, Shape]

# Between the names of two nodes that run as one.
TOGETHER = " + "


def is_compiled(layer: AnyLayer) -> bool:
    """Whether compiled kernels cover a layer: clips as activations, 3×3 depthwise, no dilated full convolution."""
    if isinstance(layer, InvertedResidual):
        return all(is_compiled(part) for part in layer.parts().values())
    if isinstance(layer, (Conv, Depthwise)) and activation(layer.activation).function is not None:
        return False
    if isinstance(layer, Depthwise):
        return layer.kernel == 3
    return not isinstance(layer, Conv) or layer.kernel == 1 or layer.dilation == 1


# ---- Joins -----------------------------------------------------------------------------------------------------------


class Join(NamedTuple):
    """A pixel that is spread over a map and joined with it, as DeepLab's image pooling is, before a 1×1 convolution.

    The pixel's channels come first in every one of the convolution's sums. So their products are summed up once and
    are the bias for the map's own: the same operations in the same order, without the spread or the joined map.

    Attributes
    ----------
    pixel, spread, other, concat : str
        Names of the nodes: the pixel, its spread, the map that it is joined with, and both together.
    """

    pixel: str
    spread: str
    other: str
    concat: str


def joins(nodes: Sequence[Node], target: Target) -> dict[str, Join]:
    """The joins among nodes, by the name of the convolution."""
    named = {node.name: node for node in nodes}
    readers = Counter(name for node in nodes for name in node.inputs)
    found = {}
    for node in nodes:
        concat = named.get(node.inputs[0], node)
        spread = named.get(concat.inputs[0], node)
        pixel = named.get(spread.inputs[0], node)
        pool = named.get(pixel.inputs[0], node)
        kinds = [type(n.layer) for n in (node, concat, spread, pixel, pool)]
        if kinds == [Conv, Concat, ResizeLike, Conv, GlobalAveragePool] and len(concat.inputs) == 2:
            alone = readers[concat.name] == readers[spread.name] == 1
            # A result can be a bias where it needs no filling up to whole vectors.
            fills = isinstance(node.layer, Conv) and node.layer.kernel == 1 and node.layer.filters % target.lanes == 0
            if alone and fills:
                found[node.name] = Join(pixel.name, spread.name, concat.inputs[1], concat.name)
    return found


# ---- Weights ---------------------------------------------------------------------------------------------------------


class PackedWeights:
    """The folded weights of a plan in one block, in the order in which kernels read them."""

    def __init__(self, plan: Plan, weights: Weights, target: Target) -> None:
        constants = Constants()
        self.build = Builder(target)
        self._packed: dict[str, Packed] = {}
        for name, layer, _ in plan.parts():
            if not is_compiled(layer) or f"{name}/kernel" not in weights:
                continue
            pack = self.build.pack_filters if isinstance(layer, Depthwise) else self.build.pack_product
            self._packed[name] = pack(constants, weights[f"{name}/kernel"], weights[f"{name}/bias"], _clip(layer))
        self._split = {
            name: self._pack_split(constants, weights, name, join.pixel)
            for name, join in joins(plan.nodes, target).items()
            if name in self._packed
        }
        self.block: Bytes = constants.block()

    def _pack_split(self, constants: Constants, weights: Weights, name: str, pixel: str) -> tuple[Packed, Packed]:
        kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
        first = len(weights[f"{pixel}/bias"])
        whole = self._packed[name]
        return (
            self.build.pack_product(constants, kernel[:first], bias),
            self.build.pack_product(constants, kernel[first:], bias)._replace(clip=whole.clip),
        )

    def __getitem__(self, name: str) -> Packed:
        return self._packed[name]

    def split(self, name: str) -> tuple[Packed, Packed]:
        """Weights of the convolution of a `Join`: for the pixel's channels without a clip, and for the others."""
        return self._split[name]


def _clip(layer: AnyLayer) -> Clip:
    name = layer.activation if isinstance(layer, (Conv, Depthwise)) else "linear"
    return activation(name).clip


# ---- Subgraphs -------------------------------------------------------------------------------------------------------


class Subgraph(NamedTuple):
    """Neighboring nodes of a schedule that run together.

    Attributes
    ----------
    nodes : tuple of Node
    inputs, outputs : tuple of str
        Values that come from outside, and those that somebody outside wants.
    compiled : bool
        One program; otherwise one node for NumPy.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compiled: bool


def partition(schedule: Schedule) -> list[Subgraph]:
    """Cut a schedule into subgraphs, as few as possible."""
    groups: list[list[Node]] = []
    for node in schedule.nodes:
        joins = groups and is_compiled(node.layer) and is_compiled(groups[-1][-1].layer)
        if joins:
            groups[-1].append(node)
        else:
            groups.append([node])
    return [_subgraph(groups, at, schedule) for at in range(len(groups))]


def _subgraph(groups: Sequence[Sequence[Node]], at: int, schedule: Schedule) -> Subgraph:
    nodes = groups[at]
    made = dict.fromkeys(node.name for node in nodes)
    read = dict.fromkeys(name for node in nodes for name in node.inputs)
    wanted = set(schedule.results.values())
    wanted.update(name for group in groups[at + 1 :] for node in group for name in node.inputs)
    return Subgraph(
        nodes=tuple(nodes),
        inputs=tuple(name for name in read if name not in made),
        outputs=tuple(name for name in made if name in wanted),
        compiled=is_compiled(nodes[0].layer),
    )


# ---- Lowering --------------------------------------------------------------------------------------------------------


class Lowered(NamedTuple):
    """A subgraph as a program.

    Attributes
    ----------
    program : Program
    names : tuple of str
        The node (or nodes) that each step of the program belongs to, those of the tail last.
    arena_bytes, batch_bytes : int
        Activations of one image at work, and what is kept of every image of a batch.
    """

    program: Program
    names: tuple[str, ...]
    arena_bytes: int
    batch_bytes: int


class Lowering:
    """Turns one subgraph into a program for one input size.

    Parameters
    ----------
    subgraph : Subgraph
    shapes : mapping of str to (height, width, channels)
        Of all values.
    weights : PackedWeights
    n_threads : int
    """

    def __init__(self, subgraph: Subgraph, shapes: Shapes, weights: PackedWeights, n_threads: int) -> None:
        self._subgraph = subgraph
        found, wanted = joins(subgraph.nodes, weights.build.target), {*subgraph.outputs}
        self._joins = {name: join for name, join in found.items() if not {join.spread, join.concat} & wanted}
        self._nodes = tuple(self._without_joined())
        self._shapes = shapes
        self._weights = weights
        self._build = weights.build
        self._n_threads = n_threads
        self._arena, self._batch, self._tables = ArenaPlanner(), ArenaPlanner(), Constants()
        self._body: list[tuple[str, Step]] = []
        self._tail: list[tuple[str, Step]] = []
        externals = [*subgraph.inputs, *subgraph.outputs]
        self._outside = {name: self._external(name, at) for at, name in enumerate(externals)}
        self._maps: dict[str, TensorView] = {name: self._outside[name] for name in subgraph.inputs}
        self._last_uses = {name: at for at, node in enumerate(self._nodes) for name in node.inputs}

    def _without_joined(self) -> Iterator[Node]:
        """The nodes, where convolutions of joins take the pixel and the other map themselves."""
        left_out = {name for join in self._joins.values() for name in (join.spread, join.concat)}
        for node in self._subgraph.nodes:
            join = self._joins.get(node.name)
            if node.name not in left_out:
                yield node._replace(inputs=(join.pixel, join.other)) if join else node

    def run(self) -> Lowered:
        """Lower all nodes."""
        nodes = self._nodes
        at = 0
        while at < len(nodes):
            if self._opens(at):
                self._block(nodes[at + 1], first=nodes[at])
                at += 1
            else:
                self._lower(nodes[at])
            self._finish(at)
            at += 1
        self._space_tail()
        body, tail = ([step for _, step in steps] for steps in (self._body, self._tail))
        names = tuple(name for name, _ in (*self._body, *self._tail))
        return Lowered(self._build.assemble(body, tail, self._tables), names, self._arena.size, self._batch.size)

    def _space_tail(self) -> None:
        """In the tail, images take the place of pixels: from one to the next is all that is kept of an image."""
        for _, step in self._tail:
            for end in ("source", "target"):
                if steps.split(int(step.record[end]))[0] == steps.BATCH:
                    step.record[f"{end}_step"] = self._batch.size

    # Values

    def _external(self, name: str, at: int) -> TensorView:
        return external(steps.ref(steps.EXTERNAL + at, 0), *_as_map(self._shapes[name]))

    def _new(self, name: str, *, batched: bool = False) -> TensorView:
        """Take memory for a value."""
        self._maps[name] = self._inside(self._shapes[name], batched=batched)
        return self._maps[name]

    def _inside(self, shape: Shape, *, batched: bool = False) -> TensorView:
        planner, buffer = (self._batch, steps.BATCH) if batched else (self._arena, steps.ARENA)
        there = self._build.resident(0, *_as_map(shape))
        return there._replace(ref=steps.ref(buffer, planner.allocate(there.size)))

    def _filled(self, name: str) -> TensorView:
        """A value with pixels filled up to whole vectors; one from outside is copied."""
        if name in self._subgraph.inputs and self._maps[name] is self._outside[name]:
            self._emit(name, self._build.copy(self._outside[name], self._new(name)))
        return self._maps[name]

    def _free(self, there: TensorView) -> None:
        buffer, offset = steps.split(there.ref)
        if buffer == steps.ARENA:
            self._arena.free(offset)

    def _finish(self, at: int) -> None:
        """Hand out what is wanted of the last node, and free the values that nobody reads any more."""
        node = self._nodes[at]
        if node.name in self._subgraph.outputs:
            source = self._maps[node.name]
            self._emit(node.name, self._build.copy(source, self._outside[node.name]), batched=_is_batched(source))
        for name in {*node.inputs, node.name}:
            if name in self._maps and self._last_uses.get(name, -1) <= at:
                self._free(self._maps[name])

    def _emit(self, name: str, step: Step, *, batched: bool = False) -> None:
        (self._tail if batched else self._body).append((name, step))

    # Nodes

    def _lower(self, node: Node) -> None:
        """Emit the steps of one node."""
        layer, name = node.layer, node.name
        if isinstance(layer, InvertedResidual):
            self._block(node)
        elif name in self._joins:
            self._join(node)
        elif isinstance(layer, Conv):
            self._conv(node, layer)
        elif isinstance(layer, Depthwise):
            source, target = self._filled(node.inputs[0]), self._new(name)
            self._emit(name, self._depthwise(source, target, self._build.expanded_copy(source), name, layer))
        elif isinstance(layer, Dense):
            self._dense(node)
        elif isinstance(layer, GlobalAveragePool):
            source, target = self._filled(node.inputs[0]), self._new(name, batched=not layer.keep_dims)
            self._emit(name, self._build.pool(source, target, (source.height, source.width)))
        elif isinstance(layer, AveragePool):
            source, target = self._filled(node.inputs[0]), self._new(name)
            self._emit(name, self._build.pool(source, target, (layer.window, layer.window), layer.stride))
        elif isinstance(layer, Add):
            source, other = (self._filled(i) for i in node.inputs)
            self._emit(name, self._build.add(source, other, self._new(name)))
        elif isinstance(layer, Concat):
            self._concat(node)
        else:
            assert isinstance(layer, ResizeLike)
            source, target = self._filled(node.inputs[0]), self._new(name)
            self._emit(name, self._build.resize(source, target, layer.variant, self._tables))

    def _conv(self, node: Node, layer: Conv) -> None:
        source, target, packed = self._maps[node.inputs[0]], self._new(node.name), self._weights[node.name]
        if layer.kernel == 1 and layer.stride == 1:
            step = self._build.pointwise(source, target, packed)
        else:
            step = self._build.conv(source, target, packed, layer.kernel, layer.geometry(source.height, source.width))
        self._emit(node.name, step)

    def _join(self, node: Node) -> None:
        join = self._joins[node.name]
        pixel, other = (self._filled(name) for name in node.inputs)
        first, rest = self._weights.split(node.name)
        label = TOGETHER.join((join.spread, join.concat, node.name))
        started = self._inside((1, 1, first.channels))
        self._emit(label, self._build.pointwise(pixel, started, first))
        self._emit(label, self._build.pointwise(other, self._new(node.name), rest._replace(bias=started.ref)))
        self._free(started)

    def _dense(self, node: Node) -> None:
        source, packed = self._maps[node.inputs[0]], self._weights[node.name]
        batched = _is_batched(source)
        make = self._build.dense if source.height * source.width == 1 else self._build.pointwise
        self._emit(node.name, make(source, self._new(node.name, batched=batched), packed), batched=batched)

    def _concat(self, node: Node) -> None:
        target = self._new(node.name)
        for name in node.inputs:
            source = self._maps[name]
            self._emit(node.name, self._build.copy(source, target))
            target = target._replace(ref=target.ref + source.channels * FLOAT_BYTES)

    def _depthwise(
        self,
        source: TensorView,
        target: TensorView,
        expanded: ExpandedMap,
        name: str,
        layer: Depthwise,
        by_panels: bool = False,
    ) -> Step:
        geometry = layer.geometry(expanded.height, expanded.width)
        return self._build.depthwise(source, target, expanded, self._weights[name], geometry, by_panels)

    # Blocks

    def _opens(self, at: int) -> bool:
        """Whether a full convolution can run inside the block after it, as the network's first one does."""
        nodes = self._nodes
        if at + 1 == len(nodes) or nodes[at].name in self._subgraph.outputs:
            return False
        layer, block = nodes[at].layer, nodes[at + 1].layer
        return (
            isinstance(layer, Conv)
            and layer.kernel > 1
            and isinstance(block, InvertedResidual)
            and block.expansion is None
            and not block.residual
            and [node for node in nodes if nodes[at].name in node.inputs] == [nodes[at + 1]]
        )

    def _block(self, node: Node, first: Node | None = None) -> None:
        """Emit an inverted residual: one step, or two where workers are to share its channels."""
        layer, name = node.layer, node.name
        assert isinstance(layer, InvertedResidual)
        depthwise = layer.parts()["depthwise"]
        assert isinstance(depthwise, Depthwise)
        source, expanded = self._expanded(node, layer, first)
        geometry = depthwise.geometry(expanded.height, expanded.width)
        filters, project = self._weights[f"{name}_depthwise"], self._weights[f"{name}_project"]
        target = self._new(name)
        label = name if first is None else f"{first.name}{TOGETHER}{name}"
        if not self._shares_channels(expanded, depthwise, target):
            self._emit(
                label,
                self._build.inverted_residual(source, target, expanded, filters, geometry, project, layer.residual),
            )
            return
        filtered = self._inside((target.height, target.width, expanded.channels))
        self._emit(label, self._depthwise(source, filtered, expanded, f"{name}_depthwise", depthwise, by_panels=True))
        self._emit(label, self._build.pointwise(filtered, target, project, source if layer.residual else None))
        self._free(filtered)

    def _expanded(self, node: Node, layer: InvertedResidual, first: Node | None) -> tuple[TensorView, ExpandedMap]:
        """The map that a block's depthwise convolution reads, and the one that it is made from."""
        if first is not None:
            assert isinstance(first.layer, Conv)
            source = self._maps[first.inputs[0]]
            geometry = first.layer.geometry(source.height, source.width)
            return source, self._build.expanded_conv(source, self._weights[first.name], first.layer.kernel, geometry)
        source = self._filled(node.inputs[0])
        if layer.expansion is None:
            return source, self._build.expanded_copy(source)
        return source, self._build.expanded_pointwise(source, self._weights[f"{node.name}_expand"])

    def _shares_channels(self, expanded: ExpandedMap, depthwise: Depthwise, target: TensorView) -> bool:
        """Whether workers share the panels of the expanded map rather than the rows of the result.

        Rows at the edge of a worker's share are computed twice; panels may not divide evenly, and the filtered map goes
        from one worker's cache to another's.
        """
        workers = self._n_threads
        if workers == 1:
            return False
        rows = -(-target.height // workers)
        overlap = 2 * depthwise.dilation + 1 - depthwise.stride
        twice = max(overlap, 0) / (rows * depthwise.stride) * (workers - 1) / workers
        by_rows = rows * workers / target.height * (1 + twice)
        panels = max(1, self._build.target.vectors(expanded.channels) // 2)
        by_panels = -(-panels // workers) * workers / panels * _SHARING
        return bool(by_panels < by_rows)


# What it costs to fetch the filtered map from the other workers' caches, as a part of a block's work (estimated).
_SHARING = 1.05


def _as_map(shape: Shape) -> tuple[int, int, int]:
    """A shape with height and width, even where pooling has taken them."""
    height, width, channels = shape if len(shape) == 3 else (1, 1, shape[-1])
    return height, width, channels


def _is_batched(value: TensorView) -> bool:
    return bool(steps.split(value.ref)[0] == steps.BATCH)
