"""What quantization costs, layer by layer, and how often the best class stays the same."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from npmnv2 import weights_tools
from npmnv2.kernels import Array, quantized
from npmnv2.lab.comparison import decibels
from npmnv2.network.plan import IMAGE
from npmnv2.network.quantization import value_parts


class LayerCost(NamedTuple):
    """What quantization did to one value.

    Attributes
    ----------
    snr : float
        Signal-to-noise ratio in dB of the quantized network's value against the float network's.
    own_snr : float
        The same if this value alone were rounded: what the layer's own range and steps cost.
    saturated : float
        Share of the float network's numbers beyond the range.
    equalized : float
        Largest factor between two channels that equalization took out; 1 if it did nothing.
    """

    name: str
    scale: float
    snr: float
    own_snr: float
    saturated: float
    equalized: float = 1.0


class QuantizationReport(NamedTuple):
    """Costs of all layers, and the share of photos with the same best class (None without classes)."""

    layers: list[LayerCost]
    photos: int
    agreement: float | None

    def __str__(self) -> str:
        lines = [f"{'value':28} {'scale':>11} {'SNR dB':>7} {'own dB':>7} {'saturated':>9} {'equalized':>9}"]
        lines += [
            f"{name:28} {scale:11.7f} {snr:7.1f} {own:7.1f} {saturated:9.3%} {_factor(equalized):>9}"
            for name, scale, snr, own, saturated, equalized in self.layers
        ]
        if self.agreement is not None:
            lines.append(f"same best class on {self.agreement:.1%} of {self.photos} photos")
        return "\n".join(lines)


def _factor(equalized: float) -> str:
    return "" if equalized == 1 else f"× {equalized:g}"


def quantization_report(reference: Any, model: Any, photos: Sequence[Any]) -> QuantizationReport:
    """Compare a quantized model with the float model that it was made from.

    Parameters
    ----------
    reference, model
        Float and quantized model of one network.
    photos : sequence
        As `predict` takes them.
    """
    names = [IMAGE, *(part.name for part in value_parts(model.plan))]
    signal, noise, own, beyond, size = (dict.fromkeys(names, 0.0) for _ in range(5))
    same = 0
    for photo in photos:
        exact, rounded = ({IMAGE: x, **m.run(x, names[1:])} for m in (reference, model) for x in [m.prepare([photo])])
        for name in names:
            q = model.quantization.values[name]
            steps = quantized.FakeQuantRange.from_quantization(q)
            signal[name] += _energy(exact[name])
            noise[name] += _energy(exact[name] - rounded[name])
            factors = np.ldexp(np.float32(1), model.quantization.exponents.get(name, 0))
            held = exact[name] / factors
            own[name] += _energy((held - quantized.fake_quantize(held, steps)) * factors)
            beyond[name] += np.count_nonzero((held < steps.low) | (held > steps.high))
            size[name] += exact[name].size
        same += int(exact[names[-1]].argmax() == rounded[names[-1]].argmax())
    layers = [
        LayerCost(
            name,
            model.quantization.values[name].scale[0],
            decibels(signal[name], noise[name]),
            decibels(signal[name], own[name]),
            beyond[name] / size[name],
            2.0 ** np.ptp(model.quantization.exponents.get(name, 0)),
        )
        for name in names
    ]
    classifies = model.task == "classification" and bool(model.config.classes)
    return QuantizationReport(layers, len(photos), same / len(photos) if classifies else None)


def dequantized(model: Any, **options: Any) -> Any:
    """The float network whose weights are the real numbers that the integers of a quantized network stand for.

    Parameters
    ----------
    model
        A quantized model.
    options
        Of the new model: ``backend``, ``dtype``, ``n_threads``; the threads of `model` if not given.

    Raises
    ------
    ArgumentError
        If the model is not quantized.
    """
    checkpoint = weights_tools.dequantized(model.to_checkpoint())
    options = {"n_threads": model.n_threads, **options}
    return type(model).from_checkpoint(checkpoint, processor=copy.copy(model.processor), **options)


def _energy(x: Array) -> float:
    return float(np.square(x, dtype=np.float64).sum())
