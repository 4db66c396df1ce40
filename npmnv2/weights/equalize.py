"""Cross-layer equalization: bring the channels of a value to similar sizes, so that one scale serves them all.

What a layer makes of a channel can be divided by a factor if the layers that read the channel multiply by it. Here the
factors are powers of two, so no weight is rounded. Which ones are allowed depends on the activation between:

- none, as after a projection and in the sums of residual connections: all;
- ReLU: all;
- ReLU6, which cuts off at 6 whatever the factor: those that leave the channel below 6, for channels that stay below 6
  on the photos. A channel that reaches 6 keeps its size.

Among several rules for factors the one with the least predicted noise is taken for each value, and none if none helps.

Source: Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction* (arXiv 1906.04721), where
ReLU6 becomes ReLU and the factors are ``√(written / read)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npmnv2.kernels import Array
from npmnv2.network.layers import Add, Conv, Dense, Depthwise
from npmnv2.network.plan import Part, Plan
from npmnv2.network.quantization import value_parts
from npmnv2.weights.calibration import Calibration

Exponents = NDArray[np.int64]
Numbers = NDArray[np.float64]

_SIX, _STEPS, _KERNEL_STEPS = 6.0, 255, 127
# The layers on both sides of a value change it in turn; a second pass gains little, a third nothing.
_PASSES = 2
# Channels of less than this share of the largest are left alone, and none is moved farther than by 2⁵.
_ALIVE, _FARTHEST = 1e-3, 5
# Powers of the sizes of kernels before, of values, and of kernels after. The first one changes nothing.
_RULES = tuple(product((0.0, 0.25, 0.5), repeat=3))


class Group(NamedTuple):
    """Values that must have common factors, the layers that make them, and the layers that read them."""

    values: tuple[str, ...]
    makers: tuple[Part, ...]
    readers: tuple[Part, ...]

    @property
    def relu6(self) -> bool:
        """Whether the values are cut off at 6."""
        return any(getattr(part.layer, "activation", "") == "relu6" for part in self.makers)


def groups(plan: Plan) -> list[Group]:
    """All values whose channels may have factors: only convolutions make and read them, or sums within the group."""
    parts = list(value_parts(plan))
    return [group for values in _joined(parts) if (group := _group(parts, values)) is not None]


def _joined(parts: list[Part]) -> Iterator[tuple[str, ...]]:
    """The values, each together with those that it is added to."""
    joined = {part.name: [part.name] for part in parts}
    for part in parts:
        for name in part.inputs if isinstance(part.layer, Add) else ():
            if joined[name] is not joined[part.name]:
                joined[part.name] += joined[name]
                joined.update(dict.fromkeys(joined[name], joined[part.name]))
    yield from dict.fromkeys(tuple(names) for names in joined.values())


def _group(parts: list[Part], values: tuple[str, ...]) -> Group | None:
    made = [part for part in parts if part.name in values and not isinstance(part.layer, Add)]
    read = [part for part in parts if set(part.inputs) & set(values) and not isinstance(part.layer, Add)]
    makers, readers = (Conv, Depthwise), (Conv, Depthwise, Dense)
    if not read or not all(isinstance(p.layer, makers) for p in made):
        return None
    return Group(values, tuple(made), tuple(read)) if all(isinstance(p.layer, readers) for p in read) else None


def find_exponents(
    plan: Plan, folded: Mapping[str, Array], seen: Calibration, per_channel: bool
) -> dict[str, Exponents]:
    """The powers of two by which the channels of values should be divided.

    Parameters
    ----------
    plan : Plan
    folded : dict of str to Array
        From `npmnv2.weights.checkpoint.fold_batch_norms`.
    seen : Calibration
        Of all values on photos.
    per_channel : bool
        Whether kernels will have a scale for every output channel.

    Returns
    -------
    dict of str to integers [shape=(C,)]
        For the values that gain by it.
    """
    found: dict[str, Exponents] = {}
    weights = dict(folded)
    for _ in range(_PASSES):
        for group in groups(plan):
            pair = _pair(group, weights, seen, found, per_channel)
            step = min((pair.exponents(*rule) for rule in _RULES), key=pair.noise)
            _divide(group, weights, step)
            found.update(dict.fromkeys(group.values, found.get(group.values[0], 0) + step))
    return {name: exponents for name, exponents in found.items() if exponents.any()}


def equalize(plan: Plan, folded: Mapping[str, Array], exponents: Mapping[str, Exponents]) -> dict[str, Array]:
    """The weights of the same network whose values are divided by powers of two, channel by channel."""
    weights = dict(folded)
    for group in groups(plan):
        if group.values[0] in exponents:
            _divide(group, weights, exponents[group.values[0]])
    return weights


def restore(plan: Plan, folded: Mapping[str, Array], exponents: Mapping[str, Any]) -> dict[str, Array]:
    """The weights before `equalize`."""
    return equalize(plan, folded, {name: -np.asarray(found, np.int64) for name, found in exponents.items()})


def _divide(group: Group, weights: dict[str, Any], exponents: Exponents) -> None:
    for part in group.makers:
        for name in (f"{part.name}/kernel", f"{part.name}/bias"):
            weights[name] = np.ldexp(weights[name], -exponents)
    for part in group.readers:
        along = exponents if isinstance(part.layer, Depthwise) else exponents[:, None]
        weights[f"{part.name}/kernel"] = np.ldexp(weights[f"{part.name}/kernel"], along)


class _Pair(NamedTuple):
    """The numbers on both sides of a group's channels, from which the noise of a choice of factors follows.

    Attributes
    ----------
    written : numbers [shape=(C,)]
        Largest weight that makes each channel.
    inputs : numbers [shape=(C,)]
        Mean square of all inputs of these weights.
    largest, original : numbers [shape=(C,)]
        Largest number on the photos, with the factors found so far and without.
    squares : numbers [shape=(C,)]
        Mean square.
    readers : tuple of numbers [shape=(C, outputs)]
        Largest weight and sum of squared weights of every layer that reads.
    """

    relu6: bool
    per_channel: bool
    written: Numbers
    inputs: Numbers
    largest: Numbers
    original: Numbers
    squares: Numbers
    readers: tuple[tuple[Numbers, Numbers], ...]

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Channels in which something happens; nothing is known of the others."""
        sizes = (self.written, self.largest, self._read())
        alive: NDArray[np.bool_] = np.logical_and.reduce([x > _ALIVE * x.max() for x in sizes])
        return alive

    def _read(self) -> Numbers:
        read: Numbers = np.max([largest.max(axis=1) for largest, _ in self.readers], axis=0)
        return read

    def exponents(self, before: float, value: float, after: float) -> Exponents:
        """Powers of two near ``written^before · largest^value / read^after``, in relation to the middle channel."""
        if not self.alive.any():
            return np.zeros(len(self.written), np.int64)
        wanted = (
            before * self._logarithm(self.written)
            + value * self._logarithm(self.largest)
            - after * self._logarithm(self._read())
        )
        exponents = np.clip(np.rint(wanted), -_FARTHEST, _FARTHEST)
        if self.relu6:
            with np.errstate(divide="ignore"):
                least = np.floor(np.log2(self.largest / _SIX)) + 1
            exponents = np.where(self.original < _SIX, np.maximum(exponents, least), 0)
        return np.where(self.alive, exponents, 0).astype(np.int64)

    def _logarithm(self, sizes: Numbers) -> Numbers:
        """Base 2, in relation to the middle channel of those alive."""
        relative: Numbers = np.log2(np.where(self.alive, sizes, 1) / np.median(sizes[self.alive]))
        return relative

    def noise(self, exponents: Exponents) -> float:
        """Mean squared error that rounding adds to the sums of all readers: that of a step is a twelfth of its square.

        It comes from the weights before, from the values themselves, and from the weights after.
        """
        factors = np.ldexp(1.0, exponents)
        before = self._step(self.written / factors)
        value = (self.largest / factors).max() / _STEPS
        error = (before**2 * self.inputs + value**2) * factors**2
        energy = float((self.squares / factors**2).sum())
        total = sum(
            error @ squares.sum(axis=1) + energy * (self._step((largest * factors[:, None]).max(axis=0)) ** 2).sum()
            for largest, squares in self.readers
        )
        return float(total) / 12

    def _step(self, largest: Numbers) -> Numbers:
        """Step of the kernel's scales, one for each output channel, or one for all."""
        return (largest if self.per_channel else largest.max(keepdims=True)) / _KERNEL_STEPS


def _pair(
    group: Group, weights: Mapping[str, Array], seen: Calibration, found: Mapping[str, Exponents], per_channel: bool
) -> _Pair:
    kernels = {part: weights[f"{part.name}/kernel"] for part in group.makers}
    original = np.max([seen.largest[name] for name in group.values], axis=0)
    squares = np.max([seen.squares[name] for name in group.values], axis=0)
    before = found.get(group.values[0], np.zeros(1, np.int64))

    def mean_squares(name: str) -> Numbers:
        scaled: Numbers = np.ldexp(seen.squares[name], -2 * found.get(name, np.zeros(1, np.int64)))
        return scaled

    return _Pair(
        group.relu6,
        per_channel,
        np.max([np.abs(k).reshape(-1, k.shape[-1]).max(axis=0) for k in kernels.values()], axis=0),
        np.sum([_inputs(part, k, mean_squares(part.inputs[0])) for part, k in kernels.items()], axis=0),
        np.ldexp(original, -before),
        original,
        np.ldexp(squares, -2 * before),
        tuple(_reader(part, weights[f"{part.name}/kernel"]) for part in group.readers),
    )


def _inputs(part: Part, kernel: Array, squares: Numbers) -> Numbers:
    """Mean square of what the weights of every output channel are multiplied by, summed over the weights."""
    taps = kernel.shape[0] * kernel.shape[1] if kernel.ndim > 2 else 1
    return taps * squares if isinstance(part.layer, Depthwise) else np.full(kernel.shape[-1], taps * squares.sum())


def _reader(part: Part, kernel: Array) -> tuple[Numbers, Numbers]:
    """Largest weight, and sum of squared weights, by input and output channel."""
    flat = kernel.astype(np.float64).reshape(-1, *kernel.shape[-2:])
    if isinstance(part.layer, Depthwise):
        columns = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
        return np.diag(np.abs(columns).max(axis=0)), np.diag((columns**2).sum(axis=0))
    return np.abs(flat).max(axis=0), (flat**2).sum(axis=0)
