"""Which of a foreign run's inner values are which of ours: by name where names tell, by shape and order where not.

An adapter hands over `Tap`s, every value that it could see, in the order of computation. A convolution, its batch norm
and its activation are three of them and one layer here, so they are grouped first, and the last one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from npmnv2.kernels import Array
from npmnv2.network.layers import Add, AveragePool, Concat, Conv, Dense, Depthwise, GlobalAveragePool, ResizeLike
from npmnv2.network.plan import IMAGE, Plan, parts_of
from npmnv2.weights_tools import endpoint_of, wiring

T = TypeVar("T")

UNKNOWN = ""
# Values of one pair that are looked at to see how alike they are.
_SAMPLES = 4096
_ENOUGH_FOR_NAMES = 0.5

_KINDS: dict[type[object], tuple[str, ...]] = {
    Conv: (wiring.CONV,),
    Depthwise: (wiring.DEPTHWISE,),
    Dense: (wiring.DENSE, wiring.CONV),
    Add: (wiring.ADD,),
    Concat: (wiring.CONCAT,),
    GlobalAveragePool: (wiring.POOL,),
    AveragePool: (wiring.POOL,),
    ResizeLike: (wiring.RESIZE,),
}


class Tap(NamedTuple):
    """A value that a foreign run let see.

    Attributes
    ----------
    name : str
        What its maker calls it.
    value : Array
        (N, H, W, C), (N, C), or whatever it is.
    kind : str
        What computed it, as `npmnv2.weights_tools.wiring` calls it; empty if unknown.
    source : str
        Key of the value that it was computed from.
    key : str
        Its own key; the name if not given.
    scale : float or None
        Step of a quantized value.
    """

    name: str
    value: Array
    kind: str = UNKNOWN
    source: str = ""
    key: str = ""
    scale: float | None = None


class Group(NamedTuple):
    """A layer as its maker sees it: all names, what computed it, and its last value."""

    names: tuple[str, ...]
    kind: str
    tap: Tap


def grouped(taps: Sequence[Tap]) -> list[Group]:
    """Join what follows a layer (batch norm, bias, activation) to it, and drop what only passes numbers on."""
    groups: dict[str, Group] = {}
    owner: dict[str, str] = {}
    for tap in taps:
        key = tap.key or tap.name
        belongs = owner.get(tap.source, "")
        if tap.kind in (wiring.FOLLOW, wiring.PASS) and belongs:
            owner[key] = belongs
            if tap.kind == wiring.FOLLOW:
                group = groups[belongs]
                groups[belongs] = Group((*group.names, tap.name), group.kind, tap)
        elif tap.kind not in (wiring.FOLLOW, wiring.PASS):
            owner[key] = key
            groups[key] = Group((tap.name,), tap.kind, tap)
    return list(groups.values())


def align(
    taps: Sequence[Tap], plan: Plan, reference: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, float], dict[str, str]]:
    """Values by our names, in our order and layout; their quantization steps; and what their maker calls them.

    Parameters
    ----------
    taps : sequence of Tap
    plan : Plan
    reference : mapping of str to Array
        Our own values: they have the shapes, and show which of several values is most alike.
    """
    groups = grouped(taps)
    found = _by_name(groups, plan)
    named = {id(group) for group in found.values()}
    nameless = len(found) < _ENOUGH_FOR_NAMES * sum(1 for _ in plan.parts())
    # Of a maker that gives names, a value without one and of an unknown kind is none of ours.
    unknown = [g for g in groups if id(g) not in named and g.kind != wiring.OTHER and (g.kind or nameless)]
    found |= _by_order(unknown, plan, reference, set(completed(dict.fromkeys(found, 0), plan)))
    values, scales, names = {}, {}, {}
    for name in (IMAGE, *plan.endpoints):
        group = found.get(name)
        if group is not None:
            values[name] = in_our_layout(group.tap.value, reference.get(name))
            names[name] = group.tap.name
            if group.tap.scale is not None:
                scales[name] = group.tap.scale
    return completed(values, plan), completed(scales, plan), names


def completed(values: dict[str, T], plan: Plan) -> dict[str, T]:
    """The same where a block and its last part, one value with two names, have both or none."""
    for node in plan.nodes:
        last = parts_of(node)[-1].name
        for name, other in ((node.name, last), (last, node.name)):
            if name in values and other not in values:
                values[other] = values[name]
    order = {name: position for position, name in enumerate((IMAGE, *plan.endpoints))}
    return dict(sorted(values.items(), key=lambda item: order.get(item[0], len(order))))


def _by_name(groups: Sequence[Group], plan: Plan) -> dict[str, Group]:
    known = {IMAGE: IMAGE, **{name: name for name in plan.endpoints}, **plan.aliases}
    found: dict[str, Group] = {}
    for group in groups:
        endpoints = [known.get(name) or known.get(endpoint_of(name) or "") for name in group.names]
        endpoint = next((e for e in endpoints if e), None)
        if endpoint is not None:
            found[endpoint] = group  # of several values of one scope the last one counts
    return found


# --- by shape and order ----------------------------------------------------------------------------------------------


def _by_order(groups: Sequence[Group], plan: Plan, reference: Mapping[str, Array], taken: set[str]) -> dict[str, Group]:
    """The assignment in one order on both sides that pairs most, and among those the most alike."""
    parts = [part for part in plan.parts() if part.name in reference and part.name not in taken]
    likeness = np.full((len(groups), len(parts)), -np.inf)
    for i, group in enumerate(groups):
        for j, part in enumerate(parts):
            if group.kind == UNKNOWN or group.kind in _KINDS.get(type(part.layer), ()):
                likeness[i, j] = alike(group.tap.value, reference[part.name])
    return {parts[j].name: groups[i] for i, j in best_path(likeness)}


def best_path(likeness: Array) -> list[tuple[int, int]]:
    """Pairs of rows and columns, ascending in both, with the largest sum."""
    rows, columns = likeness.shape
    best = np.zeros((rows + 1, columns + 1))
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            best[i, j] = max(best[i + 1, j], best[i, j + 1], likeness[i, j] + best[i + 1, j + 1])
    path, i, j = [], 0, 0
    while i < rows and j < columns:
        if likeness[i, j] > 0 and best[i, j] == likeness[i, j] + best[i + 1, j + 1]:
            path.append((i, j))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return path


def alike(value: Array, reference: Array) -> float:
    """1 for a fitting shape, and up to 1 more for correlation and closeness; minus infinity for other shapes."""
    placed = in_our_layout(value, reference)
    if placed.shape != reference.shape:
        return -np.inf
    step = max(1, reference.size // _SAMPLES)
    a, b = (x.ravel()[::step].astype(np.float64) for x in (placed, reference))
    size = float(np.linalg.norm(b))
    closeness = 1 - float(np.linalg.norm(a - b)) / size if size else 0.0
    a, b = a - a.mean(), b - b.mean()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    correlation = float(a @ b) / norms if norms and np.isfinite(norms) else 0.0
    return 1 + (max(correlation, 0.0) + max(closeness, 0.0)) / 2


def in_our_layout(value: Array, reference: Array | None) -> Array:
    """A foreign value as (N, H, W, C) or (N, C), as far as its shape tells."""
    if reference is None or value.shape == reference.shape:
        return value
    candidates: list[Callable[[Array], Array]] = [
        lambda x: x.transpose(0, 2, 3, 1) if x.ndim == 4 else x,
        lambda x: x[None],
        lambda x: x.transpose(1, 2, 0)[None] if x.ndim == 3 else x,
        lambda x: x.reshape(reference.shape) if x.size == reference.size and sum(n > 1 for n in x.shape) < 2 else x,
    ]
    for candidate in candidates:
        placed = candidate(value)
        if placed.shape == reference.shape:
            return placed
    # Another size: the channels tell the layout.
    channels = reference.shape[-1]
    if value.ndim == 4 == reference.ndim and value.shape[-1] != channels and value.shape[1] == channels:
        return value.transpose(0, 2, 3, 1)
    return value
