"""Known faults of ports, each as the change of one layer that it is.

A fault is a hypothesis: compute the layer with the fault put in, and see whether that is what the suspect has. So a
diagnosis needs no thresholds per fault, and names none that does not give the suspect's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npmnv2.kernels import (
    NO_CLIP,
    Array,
    Geometry,
    conv,
    dense,
    depthwise,
    pointwise,
    same_padding,
    symmetric_padding,
)
from npmnv2.network.activations import CLIPS, FUNCTIONS, activation
from npmnv2.network.layers import Add, Conv, Dense, Depthwise
from npmnv2.network.plan import BATCH_NORM_VARIABLES, Part, batch_norm_name

# What each fault is called, and means.
FAULTS = {
    "padding": "shifted by a pixel: other padding",
    "channel_order": "BGR instead of RGB, or the reverse",
    "input_scale": "the input is scaled otherwise",
    "resize": "other resize or crop",
    "residual_missing": "the residual connection is missing",
    "residual_extra": "a residual connection too many",
    "epsilon": "other epsilon of the batch norm",
    "activation": "other activation, or none",
    "batch_norm_missing": "the batch norm is not folded",
    "batch_norm_twice": "the batch norm is folded twice",
    "batch_norm_other": "another batch norm: a gain and an offset of its own per channel",
    "kernel_transposed": "the kernel is transposed",
    "kernel_flipped": "the kernel is flipped",
    "layout": "channels first and channels last are mixed up",
    "class_shift": "the classes are shifted by one: with and without background",
    "dilation": "dilation in the wrong block",
    "stride": "other stride",
    "quantization_scale": "quantized with another scale or zero point",
    "quantization_rounding": "quantized with another rounding",
}

Pads = tuple[tuple[int, int], tuple[int, int]]
_EPSILONS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 0.0)
_ACTIVATIONS = (
    "linear",
    "relu",
    "relu6",
    "hardswish",
    "leaky_relu",
    "silu",
    "gelu",
    "gelu_new",
    "tanh",
    "sigmoid",
    "mish",
)


@dataclass(frozen=True)
class Call:
    """One layer at work: its inputs, and everything that a fault can change.

    Attributes
    ----------
    part : Part
    inputs : tuple of Array
    kernel, bias : Array or None
        Folded.
    geometry : Geometry or None
        Padding may be negative, which crops.
    activation : str or callable
    after : tuple of callable
        What is done to the result.
    compute : callable or None
        In place of the layer's own arithmetic: a function of the inputs.
    """

    part: Part
    inputs: tuple[Array, ...]
    kernel: Array | None = None
    bias: Array | None = None
    geometry: Geometry | None = None
    activation: Any = "linear"
    after: tuple[Callable[[Array], Array], ...] = ()
    compute: Callable[..., Array] | None = None

    def linear(self) -> Array:
        """The layer's value before its activation."""
        layer, x = self.part.layer, self.inputs[0]
        if self.compute is not None:
            return self.compute(*self.inputs)
        assert self.kernel is not None
        assert self.bias is not None
        if isinstance(layer, Dense):
            return dense(x, self.kernel, self.bias)
        assert self.geometry is not None
        padded = padded_or_cropped(x, self.geometry.padding)
        bare = Geometry(self.geometry.stride, self.geometry.dilation, ((0, 0), (0, 0)))
        if isinstance(layer, Depthwise):
            return depthwise(padded, self.kernel, self.bias, bare, NO_CLIP)
        if self.kernel.ndim == 2:
            return pointwise(padded, self.kernel, self.bias, NO_CLIP)
        return conv(padded, self.kernel, self.bias, bare, NO_CLIP)

    def value(self) -> Array:
        """The layer's value."""
        return self.finish(self.linear())

    def finish(self, y: Array) -> Array:
        """What becomes of the value before the activation."""
        clip, function = activation(self.activation)
        y = np.clip(y, *clip)
        y = function(y) if function else y
        for change in self.after:
            y = change(y)
        return y


def padded_or_cropped(x: Array, pads: Pads) -> Array:
    """Zeros around a map; a negative number of them crops."""
    ends = (pads[0], pads[1])
    x = np.pad(x, ((0, 0), *((max(a, 0), max(b, 0)) for a, b in ends), (0, 0)))
    (top, bottom), (left, right) = ((max(-a, 0), max(-b, 0)) for a, b in ends)
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


class Hypothesis(NamedTuple):
    """A fault, and the layer with the fault put in.

    Attributes
    ----------
    fault : str
    sentence : str
    call : Call
    evidence : mapping
        Numbers that describe the fault.
    layer : str
        Where it is, if not in the call's own layer.
    """

    fault: str
    sentence: str
    call: Call
    evidence: Mapping[str, float | str] = {}
    layer: str = ""


@dataclass(frozen=True)
class Suspect:
    """A layer whose value is not what it should be.

    Attributes
    ----------
    call : Call
        The layer as it should be, on the suspect's own inputs.
    seen : Array or None
        Its value in the suspect; None inside a stretch that the suspect does not show.
    weights : mapping
        Those of the reference, by canonical name; with batch norms where it has them.
    """

    call: Call
    seen: Array | None
    weights: Mapping[str, Array] = field(repr=False, default_factory=dict)


# Free values of a channel from which a line is fitted, and of all channels for each number that is fitted.
_ENOUGH_FOR_A_LINE, _VALUES_PER_NUMBER = 3, 2

Detector = Callable[[Suspect], Iterator[Hypothesis]]


def hypotheses(suspect: Suspect) -> Iterator[Hypothesis]:
    """All faults that this kind of layer can have."""
    for detector in _DETECTORS:
        yield from detector(suspect)


def _windowed(suspect: Suspect) -> Geometry | None:
    """The geometry of a layer with a window of more than one pixel."""
    call = suspect.call
    spatial = isinstance(call.part.layer, (Conv, Depthwise)) and call.kernel is not None and call.kernel.ndim > 2
    return call.geometry if spatial else None


def padding(suspect: Suspect) -> Iterator[Hypothesis]:
    """Windows that begin a pixel earlier or later, or that are not padded."""
    geometry = _windowed(suspect)
    if geometry is None:
        return
    (top, bottom), (left, right) = geometry.padding
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            if down or across:
                pads = ((top + down, bottom - down), (left + across, right - across))
                yield Hypothesis(
                    "padding",
                    f"{FAULTS['padding']} ({pads[0]}, {pads[1]}) instead of {geometry.padding}",
                    replace(suspect.call, geometry=geometry._replace(padding=pads)),
                    {"down": float(down), "across": float(across)},
                )
    if (top, bottom, left, right) != (0, 0, 0, 0):
        bare = replace(suspect.call, geometry=geometry._replace(padding=((0, 0), (0, 0))))
        yield Hypothesis("padding", f"{FAULTS['padding']}: none instead of {geometry.padding}", bare)
    same = symmetric_padding(suspect.call.kernel.shape[0], geometry.dilation)  # type: ignore[union-attr]
    both = replace(suspect.call, geometry=geometry._replace(padding=(same, same)))
    yield Hypothesis("padding", f"{FAULTS['padding']}: {same} on both sides", both)


def kernels(suspect: Suspect) -> Iterator[Hypothesis]:
    """Kernels whose rows and columns are turned."""
    if _windowed(suspect) is None:
        return
    kernel = suspect.call.kernel
    assert kernel is not None
    turned = {
        "rows and columns swapped": ("kernel_transposed", kernel.swapaxes(0, 1)),
        "by half a turn": ("kernel_flipped", kernel[::-1, ::-1]),
        "top to bottom": ("kernel_flipped", kernel[::-1]),
        "left to right": ("kernel_flipped", kernel[:, ::-1]),
    }
    for how, (fault, changed) in turned.items():
        yield Hypothesis(fault, f"{FAULTS[fault]} ({how})", replace(suspect.call, kernel=np.ascontiguousarray(changed)))


def activations(suspect: Suspect) -> Iterator[Hypothesis]:
    """Other activations."""
    call = suspect.call
    if not isinstance(call.part.layer, (Conv, Depthwise, Dense, Add)):
        return
    for name in _ACTIVATIONS:
        if name != call.activation and (name in CLIPS or name in FUNCTIONS):
            own = call.activation if isinstance(call.activation, str) else "its own"
            sentence = f"{FAULTS['activation']}: {name} instead of {own}"
            yield Hypothesis("activation", sentence, replace(call, activation=name), {"activation": name})


def dilations(suspect: Suspect) -> Iterator[Hypothesis]:
    """Other dilations and strides, each with the padding that keeps its windows centered."""
    geometry = _windowed(suspect)
    if geometry is None:
        return
    height, width = suspect.call.inputs[0].shape[1:3]
    size = suspect.call.kernel.shape[0]  # type: ignore[union-attr]
    for stride in (1, 2):
        for dilation in (1, 2, 4, 8, 16):
            if (stride, dilation) == (geometry.stride, geometry.dilation) or (stride == 2 and dilation > 1):
                continue
            pads = tuple(same_padding(n, size, stride, dilation) for n in (height, width))
            fault = "dilation" if stride == geometry.stride or dilation != geometry.dilation else "stride"
            own, other = (
                f"stride {geometry.stride}, dilation {geometry.dilation}",
                f"stride {stride}, dilation {dilation}",
            )
            changed = replace(suspect.call, geometry=Geometry(stride, dilation, pads))  # type: ignore[arg-type]
            evidence = {"stride": float(stride), "dilation": float(dilation)}
            yield Hypothesis(fault, f"{FAULTS[fault]}: {other} instead of {own}", changed, evidence)


def batch_norms(suspect: Suspect) -> Iterator[Hypothesis]:
    """Batch norms with another epsilon, not folded, or folded twice; for a reference that has them unfolded."""
    call, layer = suspect.call, suspect.call.part.layer
    norm = batch_norm_name(call.part.name)
    if not isinstance(layer, (Conv, Depthwise)) or layer.norm is None or f"{norm}/gamma" not in suspect.weights:
        return
    gamma, beta, mean, variance = (suspect.weights[f"{norm}/{v}"].astype(np.float64) for v in BATCH_NORM_VARIABLES)
    kernel, bias = call.kernel, call.bias
    assert kernel is not None
    assert bias is not None
    scale = gamma / np.sqrt(variance + layer.norm)
    for epsilon in _EPSILONS:
        if epsilon != layer.norm and (variance + epsilon > 0).all():
            own = gamma / np.sqrt(variance + epsilon)
            changed = replace(call, kernel=kernel * (own / scale), bias=beta - mean * own)
            sentence = f"{FAULTS['epsilon']}: {epsilon:g} instead of {layer.norm:g}"
            yield Hypothesis("epsilon", sentence, changed, {"epsilon": epsilon})
    bare = kernel / scale
    missing = {"no scale, no shift": np.zeros_like(bias), "the shift only": bias, "the offset only": beta}
    for how, shift in missing.items():
        sentence = f"{FAULTS['batch_norm_missing']} ({how})"
        yield Hypothesis("batch_norm_missing", sentence, replace(call, kernel=bare, bias=shift))
    twice = {"kernel and shift": scale * bias + (beta - mean * scale), "the kernel only": bias}
    for how, shift in twice.items():
        sentence = f"{FAULTS['batch_norm_twice']} ({how})"
        yield Hypothesis("batch_norm_twice", sentence, replace(call, kernel=kernel * scale, bias=shift))


def residuals(suspect: Suspect) -> Iterator[Hypothesis]:
    """Residual connections that are missing or count twice."""
    call = suspect.call
    if not isinstance(call.part.layer, Add):
        return
    yield Hypothesis("residual_missing", FAULTS["residual_missing"], replace(call, compute=lambda a, _: a))
    sentence = f"{FAULTS['residual_extra']}: the block's input is added twice"
    yield Hypothesis("residual_extra", sentence, replace(call, compute=lambda a, b: a + 2 * b))


def layouts(suspect: Suspect) -> Iterator[Hypothesis]:
    """Maps whose numbers are right and in the wrong order."""
    if isinstance(suspect.call.part.layer, (Add, Dense)):
        return
    for how, change in LAYOUTS.items():
        sentence = f"{FAULTS['layout']} ({how})"
        yield Hypothesis("layout", sentence, replace(suspect.call, after=(*suspect.call.after, change)))


def _reshaped(x: Array) -> Array:
    """Channels-first numbers read as channels last."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape) if x.ndim == 4 else x


def _unshaped(x: Array) -> Array:
    """Channels-last numbers read as channels first."""
    if x.ndim != 4:
        return x
    n, height, width, channels = x.shape
    return x.reshape(n, channels, height, width).transpose(0, 2, 3, 1)


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "channels first read as channels last": _reshaped,
    "channels last read as channels first": _unshaped,
    "height and width swapped": lambda x: x.swapaxes(1, 2) if x.ndim == 4 else x,
}


def classes(suspect: Suspect) -> Iterator[Hypothesis]:
    """Scores that belong to the class before or after."""
    call = suspect.call
    if not isinstance(call.part.layer, Dense) or suspect.seen is None or call.bias is None:
        return
    count, found = call.bias.shape[-1], suspect.seen.shape[-1]
    changes: dict[str, Callable[[Array], Array]] = {}
    if found == count:
        changes = {
            "one too high": lambda y: np.roll(y, 1, -1),
            "one too low": lambda y: np.roll(y, -1, -1),
        }
    elif found == count - 1:
        changes = {"the last class is left out instead of the background": lambda y: y[..., :-1]}
    for how, change in changes.items():
        sentence = f"{FAULTS['class_shift']} ({how})"
        yield Hypothesis("class_shift", sentence, replace(call, after=(change, *call.after)))


_DETECTORS: tuple[Detector, ...] = (
    residuals, padding, kernels, dilations, batch_norms, activations, layouts, classes,
)  # fmt: skip


def other_batch_norm(suspect: Suspect) -> Hypothesis | None:
    """A gain and an offset per channel, fitted to the values that no activation has cut off."""
    call, seen = suspect.call, suspect.seen
    if not isinstance(call.part.layer, (Conv, Depthwise)) or seen is None or seen.ndim != 4:
        return None
    z = call.linear()
    if z.shape != seen.shape:
        return None
    low, high = activation(call.activation).clip
    free = np.asarray((seen > low) & (seen < high) & np.isfinite(seen))
    gain, offset = fitted_line(z, seen, free)
    told = free.sum((0, 1, 2)) >= _ENOUGH_FOR_A_LINE
    if free.sum() < _VALUES_PER_NUMBER * 2 * told.size or told.mean() < 0.5:
        return None
    # A channel that the activation cuts off says nothing for or against.
    changed = replace(call, compute=lambda *_: np.where(told, z * gain + offset, seen))
    evidence = {"gain": float(np.median(gain)), "offset": float(np.median(offset))}
    return Hypothesis("batch_norm_other", FAULTS["batch_norm_other"], changed, evidence)


def fitted_line(z: Array, y: Array, use: NDArray[np.bool_], axes: tuple[int, ...] = (0, 1, 2)) -> tuple[Array, Array]:
    """Least-squares gain and offset from `z` to `y`, for every channel, of the entries to `use`."""
    count = np.maximum(use.sum(axes), 1)
    mean_z, mean_y = (np.where(use, v, 0.0).sum(axes) / count for v in (z, y))
    dz, dy = np.where(use, z - mean_z, 0.0), np.where(use, y - mean_y, 0.0)
    energy = np.square(dz).sum(axes)
    gain = np.where(energy > 0, (dz * dy).sum(axes) / np.where(energy > 0, energy, 1.0), 1.0)
    return gain, mean_y - gain * mean_z
