"""One photo through a quantized network in every arithmetic, its float original and LiteRT, in steps of each value."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from npmnv2.errors import ArgumentError, MissingPackageError
from npmnv2.kernels import Array, quantized
from npmnv2.network.plan import IMAGE
from npmnv2.network.quantization import ARITHMETICS, XNNPACK, value_parts

LITERT, FLOAT = "litert", "float"


class Steps(NamedTuple):
    """How far a value is from the one in XNNPACK's arithmetic, in units of its scale."""

    largest: float
    mean: float


class SideBySide(NamedTuple):
    """Differences of every value, by the name of what computed it.

    Attributes
    ----------
    values : tuple of str
        In the order in which they are computed.
    scales : dict of str to float
    columns : dict of str to dict of str to Steps
        By column (``reference``, ``fakequant``, ``litert``, ``float``) and value.
    """

    values: tuple[str, ...]
    scales: Mapping[str, float]
    columns: Mapping[str, Mapping[str, Steps]]

    def __str__(self) -> str:
        head = " ".join(f"{name:>17}" for name in self.columns)
        lines = [f"{'steps: largest, mean':28} {'scale':>11} {head}"]
        for value in self.values:
            cells = " ".join(_cell(column.get(value)) for column in self.columns.values())
            lines.append(f"{value:28} {self.scales[value]:11.7f} {cells}")
        return "\n".join(lines)


def _cell(steps: Steps | None) -> str:
    return f"{'–':>17}" if steps is None else f"{steps.largest:9.1f} {steps.mean:7.4f}"


def side_by_side(model: Any, photo: Any, reference: Any = None, litert: bool = False) -> SideBySide:
    """Run one photo every way and compare with the integers of XNNPACK's arithmetic.

    Parameters
    ----------
    model
        A quantized model.
    photo
        As `predict` takes it.
    reference : model, optional
        The float network, for a column of its own.
    litert : bool
        Run the network in LiteRT, too, which has to be installed.

    Raises
    ------
    ArgumentError
        If the model is not quantized.
    MissingPackageError
    """
    if model.quantization is None:
        raise ArgumentError("model must be quantized to be compared in steps of its values")
    names = [part.name for part in value_parts(model.plan)]
    x = model.prepare([photo])
    exact = in_arithmetic(model, XNNPACK).run(x, names)
    others = {name: in_arithmetic(model, name).run(x, names) for name in ARITHMETICS if name != XNNPACK}
    if litert:
        others[LITERT] = litert_trace(model, x)
    if reference is not None:
        others[FLOAT] = reference.run(reference.prepare([photo]), [n for n in names if n in reference.plan.endpoints])
    scales = {name: model.quantization.values[name].scale[0] for name in names}
    columns = {
        column: {name: _steps(exact[name], trace[name], scales[name]) for name in names if name in trace}
        for column, trace in others.items()
    }
    return SideBySide(tuple(names), scales, columns)


def in_arithmetic(model: Any, arithmetic: str) -> Any:
    """The same quantized model in another arithmetic."""
    return type(model).from_checkpoint(
        model.to_checkpoint(), processor=copy.copy(model.processor), arithmetic=arithmetic
    )


def litert_trace(model: Any, x: Array) -> dict[str, Array]:
    """Every value of a quantized network as LiteRT's default interpreter computes it, as real numbers.

    Raises
    ------
    MissingPackageError
        If LiteRT is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise MissingPackageError("LiteRT is needed to compare with it: pip install ai-edge-litert") from None
    from dataclasses import replace

    from npmnv2.weights_tools import tflite_bytes

    checkpoint, quantization = model.to_checkpoint(), model.quantization
    image = quantization.values[IMAGE]
    interface = replace(quantization.interface, shape=(1, *x.shape[1:]), input=image, steps=())
    checkpoint = replace(checkpoint, quantization=replace(quantization, interface=interface))
    interpreter = Interpreter(model_content=tflite_bytes(checkpoint, every_value=True), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], quantized.quantize(x[:1], image))
    interpreter.invoke()
    outputs = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
    names: Sequence[str] = [part.name for part in value_parts(model.plan)]
    real = {name: quantized.dequantize(q, quantization.values[name]) for name, q in zip(names, outputs)}
    return {name: quantization.restored(name, values) for name, values in real.items()}


def _steps(exact: Array, other: Array, scale: float) -> Steps:
    steps = np.abs(exact.astype(np.float64).ravel() - other.astype(np.float64).ravel()) / scale
    return Steps(float(steps.max()), float(steps.mean()))
