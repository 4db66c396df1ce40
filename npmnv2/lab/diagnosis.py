"""Why two runs differ: known faults, each found at the layer where it is.

Every layer is judged on the suspect's own inputs: the reference's layer computes what it should have made of them. So a
fault does not hide those behind it, and a layer behind a fault is not accused of it. This needs nothing of the suspect
but its values, dumped ones included.

A layer that is off is tried with every known fault put in (`npmnv2.lab.faults`). A fault is named if it explains nearly
all of the difference; a layer that none explains stays unexplained. Nobody is accused for rounding: differences as
small as float32 makes them are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from npmnv2.backends.integers import QuantizedBackend, real_weights
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.kernels import Array, quantized, softmax
from npmnv2.lab.alignment import completed
from npmnv2.lab.comparison import DIVERGED_STEPS, Finding, are_probabilities, without_background
from npmnv2.lab.faults import FAULTS, Call, Hypothesis, Suspect, hypotheses, other_batch_norm
from npmnv2.lab.input_faults import as_hypotheses, candidates, explain_first_layer, explain_image, share
from npmnv2.lab.quantization_faults import quantization_hypotheses
from npmnv2.network.architecture import CLASSIFIER
from npmnv2.network.layers import Conv, Dense, Depthwise, InvertedResidual
from npmnv2.network.plan import IMAGE, Node, Part, parts_of
from npmnv2.weights.checkpoint import fold_batch_norms

__all__ = ["FAULTS", "diagnose"]

# Root-mean-square difference of a layer, as a share of its own, below which it is taken for rounding in float32.
NOISE = 1e-5
# What a fault may leave of the difference that it explains.
REMAINDER = 0.1
# The fit per channel has two free numbers for each channel, so it must explain everything.
FITTED = 1e-3
# Differences of a quantized suspect below this many of its steps (root mean square) are its own rounding.
OWN_ROUNDING = 0.75
# Error of a layer from which on it is reported although no fault explains it.
UNEXPLAINED = 1e-2
# Of a longer stretch that the suspect does not show only the end is searched: each try runs all that follows.
LONGEST_STRETCH = 12


def diagnose(
    judge: Any,
    values: Mapping[str, Array],
    x: Array,
    *,
    photo: Any = None,
    scales: Mapping[str, float] | None = None,
    rounded: Collection[str] = (),
) -> tuple[Finding, ...]:
    """Known faults of a run, in the order of its layers.

    Parameters
    ----------
    judge : model
        The network as it should be, with its weights; batch norms unfolded if faults of theirs shall be found.
    values : mapping of str to Array
        What the suspect computed, by endpoint; the more, the sharper. ``image`` is its input, if it is known.
    x : Array [shape=(N, H, W, C)]
        What its input should have been.
    photo : optional
        What `x` was made of: other ways to prepare it are tried.
    scales : mapping of str to float, optional
        Steps of the suspect's quantized values.
    rounded : collection of str
        Layers that are known to do nothing but round, and are not looked at.
    """
    return tuple(_Examination(judge, values, x, photo, scales or {}, rounded).findings())


def unexplained(
    judge: Any, values: Mapping[str, Array], x: Array, found: Sequence[Finding], rounded: Collection[str] = ()
) -> list[str]:
    """Layers that are clearly off although nothing known explains it."""
    accused = {finding.layer for finding in found} | {*rounded}
    examination = _Examination(judge, values, x, None, {})
    return [
        stretch[-1].part.name
        for stretch in examination.stretches()
        if not accused & {call.part.name for call in stretch}
        and examination.error(_run(stretch), stretch[-1].part.name) > UNEXPLAINED
    ]


def only_rounds(judge: Any, values: Mapping[str, Array], x: Array, scales: Mapping[str, float]) -> bool:
    """Whether every layer of a quantized network is within a step of what the judge makes of the layer's own inputs.

    Two arithmetics of one network round some results to neighboring integers. Later layers then differ by several
    steps, though each is right.
    """
    examination = _Examination(judge, values, x, None, scales)

    def steps(stretch: list[Call]) -> float:
        name = stretch[-1].part.name
        expected, seen = without_background(_run(stretch), examination.values[name])
        return float(np.abs(expected - seen).max() / scales[name]) if name in scales else math.inf

    return all(steps(stretch) < DIVERGED_STEPS for stretch in examination.stretches())


@dataclass
class _Examination:
    judge: Any
    values: Mapping[str, Array]
    x: Array
    photo: Any
    scales: Mapping[str, float]
    rounded: Collection[str] = ()
    known: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model = self.judge
        self.values = completed(dict(self.values), model.plan)
        self.widths = {name: shape[-1] for name, shape in model.plan.shapes(*self.x.shape[1:3]).items()}
        self.quantization = model.quantization
        if self.quantization is None:
            self.weights: Mapping[str, Array] = fold_batch_norms(model.plan, model.weights, np.float64)
            self.executable: Any = NumpyExecutable(model.plan, self.weights)
        else:
            real = real_weights(model.plan, model.weights, model.quantization)
            self.weights = {name: value.astype(np.float64) for name, value in real.items()}
            # Compiled kernels keep none of the integers that a layer by itself is computed with.
            backend = QuantizedBackend(model.quantization, model.backend.arithmetic)
            self.executable = backend.compile(model.plan, model.weights)

    # --- walking along the network -----------------------------------------------------------------------------------

    def findings(self) -> Iterator[Finding]:
        """All of them, in order."""
        yield from self._image()
        for stretch in self.stretches():
            yield from self._judged(stretch)

    def stretches(self) -> Iterator[list[Call]]:
        """Layers from one value that the suspect shows to the next: mostly one."""
        self.known = {IMAGE: self.values.get(IMAGE, self.x).astype(np.float64)}
        hidden: list[Call] = []
        for node in self.judge.plan.nodes:
            for part in parts_of(node):
                call = self._call(part, tuple(self.known[name] for name in part.inputs))
                seen = self._shown(part)
                if seen is None:
                    self.known[part.name] = call.value()
                    hidden.append(call)
                    continue
                self.known[part.name] = seen.astype(np.float64)
                yield [*hidden, call]
                hidden = []
            last = parts_of(node)[-1].name
            self.known[node.name] = self._block_output(node, last)

    def _shown(self, part: Part) -> Array | None:
        """What the suspect shows of a layer; None for a layer of another width, which the next one could not take."""
        seen = self.values.get(part.name)
        width = self.widths[part.name]
        if seen is None or seen.shape[-1] == width or (isinstance(part.layer, Dense) and seen.shape[-1] == width - 1):
            return seen
        return None

    def _block_output(self, node: Node, last: str) -> Array:
        """A block's value: the suspect's own if it shows one that is not that of the block's last part."""
        seen = self.values.get(node.name)
        own = self.known[last]
        return own if seen is None or seen.shape[-1] != own.shape[-1] else seen.astype(np.float64)

    def _call(self, part: Part, inputs: tuple[Array, ...]) -> Call:
        layer = part.layer
        after: tuple[Callable[[Array], Array], ...] = ()
        seen = self.values.get(part.name)
        if part.name == CLASSIFIER and seen is not None and are_probabilities(seen):
            after = (softmax,)
        if self.quantization is not None:
            return Call(part, inputs, compute=lambda *maps: self._in_integers(part, maps), after=after)
        if not isinstance(layer, (Conv, Depthwise, Dense)):
            return Call(part, inputs, compute=lambda *maps: self.executable.compute(part, *maps), after=after)
        return replace(self._float_call(part, inputs), after=after)

    def _float_call(self, part: Part, inputs: tuple[Array, ...]) -> Call:
        layer = part.layer
        kernel, bias = (self.weights[f"{part.name}/{variable}"] for variable in ("kernel", "bias"))
        if isinstance(layer, Dense):
            return Call(part, inputs, kernel, bias)
        assert isinstance(layer, (Conv, Depthwise))
        return Call(part, inputs, kernel, bias, layer.geometry(*inputs[0].shape[1:3]), layer.activation)

    # --- judging ------------------------------------------------------------------------------------------------------

    def error(self, expected: Array, name: str) -> float:
        """Root-mean-square difference from what the suspect shows, as a share of that; 1 for another shape."""
        a, b = without_background(expected, self.values[name])
        if a.shape != b.shape:
            return 1.0
        return share(a - b, b) if np.isfinite(b).all() else np.inf

    def noise(self, name: str) -> float:
        """What the suspect's own rounding may make of `error`."""
        step, seen = self.scales.get(name, 0.0), self.values[name]
        if not step or self.quantization is not None:
            return NOISE
        whole = float(np.sqrt(np.mean(np.square(seen, dtype=np.float64))))
        return max(NOISE, OWN_ROUNDING * step / whole) if whole else NOISE

    def _judged(self, stretch: list[Call]) -> Iterator[Finding]:
        name = stretch[-1].part.name
        before = self.error(_run(stretch), name)
        if before > self.noise(name) and name not in self.rounded:
            yield from self._explained(stretch, before, self._hypotheses(stretch))
        yield from self._extra_residual(stretch[-1])

    def _explained(
        self, stretch: list[Call], before: float, tries: Iterable[tuple[int, list[Hypothesis]]]
    ) -> Iterator[Finding]:
        """The hypothesis that leaves least, if it leaves little."""
        name = stretch[-1].part.name
        noise, after, position, best = self.noise(name), np.inf, 0, list[Hypothesis]()
        for at, together in tries:
            left = self._tried([*stretch[:at], together[-1].call, *stretch[at + 1 :]], name)
            if left < after:
                after, position, best = left, at, together
            if after <= noise:  # of two that leave nothing but rounding the first counts
                break
        if after <= REMAINDER * min(before, 1.0):
            for hypothesis in best:
                layer = hypothesis.layer or stretch[position].part.name
                evidence = {**hypothesis.evidence, "error_before": before, "error_after": after}
                yield Finding(hypothesis.fault, layer, hypothesis.sentence, evidence)

    def _tried(self, changed: list[Call], name: str) -> float:
        try:
            return self.error(_run(changed), name)
        except (ValueError, IndexError):  # a window that does not fit
            return np.inf

    def _hypotheses(self, stretch: list[Call]) -> Iterator[tuple[int, list[Hypothesis]]]:
        if self.quantization is not None:
            yield from ((len(stretch) - 1, [h]) for h in self._quantization_hypotheses(stretch[-1]))
            return
        for position, call in enumerate(stretch):
            if len(stretch) - position > LONGEST_STRETCH:
                continue
            last = position == len(stretch) - 1
            seen = self.values[call.part.name].astype(np.float64) if last else None
            suspect = Suspect(call, seen, self.judge.weights)
            yield from ((position, [hypothesis]) for hypothesis in hypotheses(suspect))
            if call.part.name == _first_layer(self.judge) and last and IMAGE not in self.values:
                yield from self._input_hypotheses(suspect, position)
            yield from self._fitted(suspect, stretch, position) if last else ()

    def _fitted(self, suspect: Suspect, stretch: list[Call], position: int) -> Iterator[tuple[int, list[Hypothesis]]]:
        """The fit per channel, which explains too much to be tried before all others have failed."""
        name = suspect.call.part.name
        others = (self._tried([*stretch[:position], h.call], name) for h in hypotheses(suspect))
        before = self.error(_run(stretch), name)
        if min(others, default=np.inf) > REMAINDER * min(before, 1.0):
            fitted = other_batch_norm(suspect)
            if fitted is not None and self._tried([*stretch[:position], fitted.call], name) < FITTED < before:
                yield position, [fitted]

    def _extra_residual(self, call: Call) -> Iterator[Finding]:
        """A block without a residual connection whose input was added all the same."""
        node = next((n for n in self.judge.plan.nodes if parts_of(n)[-1].name == call.part.name), None)
        if node is None or not isinstance(node.layer, InvertedResidual) or node.layer.residual:
            return
        source, projected = self.known[node.inputs[0]], self.known[call.part.name]
        seen = self.values.get(node.name, self.values[call.part.name]).astype(np.float64)
        own = projected if self._differ(seen, projected) else call.value()
        stride = node.layer.stride
        shortcut = source[:, ::stride, ::stride]
        if not own.shape == seen.shape == shortcut.shape:
            return
        before, after = share(own - seen, seen), share(own + shortcut - seen, seen)
        if before > NOISE and after <= REMAINDER * before:
            evidence = {"error_before": before, "error_after": after}
            yield Finding("residual_extra", node.name, FAULTS["residual_extra"], evidence)

    def _differ(self, a: Array, b: Array) -> bool:
        return a.shape != b.shape or share(a - b, b) > NOISE

    # --- the input ----------------------------------------------------------------------------------------------------

    def _image(self) -> Iterator[Finding]:
        seen = self.values.get(IMAGE)
        if seen is None or self._same_image(seen):
            return
        before = share(seen - self.x, seen) if seen.shape == self.x.shape else 1.0
        found = explain_image(seen.astype(np.float64), self._candidates())
        if found is not None and found.error <= REMAINDER * min(before, 1.0):
            evidence = {"error_before": before, "error_after": found.error}
            for fault, sentence in found.faults:
                numbers = {"gain": found.gain, "offset": found.offset} if fault == "input_scale" else {}
                yield Finding(fault, IMAGE, sentence, {**numbers, **evidence})
            return
        likeness = _correlation(seen, self.x)
        if likeness > _SAME_PHOTO:
            numbers = {"correlation": likeness, "error_before": before, "error_after": before}
            yield Finding("resize", IMAGE, f"{FAULTS['resize']}: none of the known ones", numbers)

    def _same_image(self, seen: Array) -> bool:
        step = self.scales.get(IMAGE, 0.0)
        same_shape = seen.shape == self.x.shape
        return same_shape and bool(np.abs(seen - self.x).max() <= max(0.51 * step, _SAME_PIXELS))

    def _candidates(self) -> Any:
        return candidates(self.x.astype(np.float64), self.photo)

    def _input_hypotheses(self, suspect: Suspect, position: int) -> Iterator[tuple[int, list[Hypothesis]]]:
        found = explain_first_layer(suspect, self._candidates())
        if found is not None:
            yield position, as_hypotheses(found, suspect.call)

    # --- integers -----------------------------------------------------------------------------------------------------

    def _in_integers(self, part: Part, maps: Sequence[Array]) -> Array:
        executable = self.executable
        meanings = [executable_values(executable, self.quantization)[name] for name in part.inputs]
        integers = [quantized.quantize(x.astype(np.float32), q) for x, q in zip(maps, meanings)]
        if not hasattr(executable, "integers"):  # fake quantization stays in float
            result: Array = executable.compute(part, *(x.astype(np.float32) for x in maps))
            return result.astype(np.float64)
        value = executable.compute(part, *integers)
        return quantized.dequantize(value, self.quantization.values[part.name]).astype(np.float64)

    def _quantization_hypotheses(self, call: Call) -> Iterator[Hypothesis]:
        part, q = call.part, self.quantization.values[call.part.name]
        seen = self.values[part.name].astype(np.float64)
        if isinstance(part.layer, (Conv, Depthwise, Dense)):
            exact = self._float_call(part, call.inputs).value()
        else:
            exact = NumpyExecutable(self.judge.plan, {}).compute(part, *call.inputs)
        low, high = ((limit - q.zero_point) * q.scale[0] for limit in quantized.clip_range(q, "reference"))
        yield from quantization_hypotheses(Suspect(call, seen), exact, q.scale[0], (low, high))


_SAME_PIXELS = 1e-5
_SAME_PHOTO = 0.5


def executable_values(executable: Any, quantization: Any) -> Mapping[str, Any]:
    """Quantization of every value, blocks included."""
    found: Mapping[str, Any] = getattr(executable, "values", None) or quantization.values
    return found


def _run(calls: Sequence[Call]) -> Array:
    """The value of the last of some layers, each of which takes what those before it computed."""
    computed: dict[str, Array] = {}
    for call in calls:
        inputs = tuple(computed.get(name, x) for name, x in zip(call.part.inputs, call.inputs))
        computed[call.part.name] = replace(call, inputs=inputs).value() if computed else call.value()
    return computed[calls[-1].part.name]


def _first_layer(model: Any) -> str:
    name: str = parts_of(model.plan.nodes[0])[0].name
    return name


def _correlation(a: Array, b: Array) -> float:
    if a.shape != b.shape:
        return 0.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) if a.std() and b.std() else 0.0
