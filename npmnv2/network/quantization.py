"""What the integers of a quantized network stand for, as data beside the plan.

A quantized network is a plan, integer weights, and a `Quantization`: for every value of the plan (the image and the
result of every part) and for every kernel a scale and a zero point. A bias needs none: its unit is the product of the
scales of the layer's input and kernel.

A TFLite file does more than the plan: it may take another type than the network, and it ends in what its users want
(probabilities, a label map). That is its `Interface`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.kernels import Arithmetic, Array, TensorQuantization, Variant, quantized
from npmnv2.network.layers import AveragePool, Concat, Conv, Dense, Depthwise, ResizeLike
from npmnv2.network.plan import IMAGE, LARGE_IMAGE, Part, Plan, parts_of

XNNPACK, FAKE_QUANT = "xnnpack", "fakequant"
ARITHMETICS = (*quantized.ARITHMETICS, FAKE_QUANT)
POOLINGS = ("average_pool", "mean")

# The factors from sums to outputs that XNNPACK takes; gemmlowp's multiplier ends at 2⁻³¹.
_SMALLEST_FACTOR, _LARGEST_FACTOR = 2.0**-31, 2.0**8
_INT32 = 1 << 31
_LARGEST_EXPONENT = 64


def value_parts(plan: Plan) -> Iterator[Part]:
    """The parts of a plan, whose inputs are called by the part that makes them where the plan names its block."""
    makers: dict[str, str] = {}
    for node in plan.nodes:
        for part in parts_of(node):
            yield part._replace(inputs=tuple(makers.get(name, name) for name in part.inputs))
        makers[node.name] = part.name


@dataclass(frozen=True)
class Softmax:
    """Probabilities in steps of 1/256."""

    output: TensorQuantization
    beta: float = 1.0


@dataclass(frozen=True)
class Logistic:
    """Scores of a detector's classes, one by one, in steps of 1/256."""

    output: TensorQuantization


@dataclass(frozen=True)
class Requantize:
    """The same numbers in another scale or type."""

    output: TensorQuantization


@dataclass(frozen=True)
class Dequantize:
    """Real numbers."""


@dataclass(frozen=True)
class Resize:
    """Bilinear, to (height, width)."""

    size: tuple[int, int]
    variant: Variant


@dataclass(frozen=True)
class ArgMax:
    """Index of the largest number along the channels."""

    dtype: str = "int64"


@dataclass(frozen=True)
class Reshape:
    """Another shape; the first axis is the batch."""

    shape: tuple[int, ...]


Step = Softmax | Logistic | Requantize | Dequantize | Resize | ArgMax | Reshape
_STEPS: dict[str, type[Step]] = {
    step.__name__: step for step in (Softmax, Logistic, Requantize, Dequantize, Resize, ArgMax, Reshape)
}


@dataclass(frozen=True)
class Interface:
    """What the interpreter of the file takes and returns.

    Attributes
    ----------
    shape : (batch, height, width, channels)
        Of the input.
    input : TensorQuantization or None
        Of the input; None for real numbers.
    steps : tuple
        What follows after the plan's last node; of a detector what its class logits go through. Its configuration says
        how boxes are chosen then.
    """

    shape: tuple[int, ...]
    input: TensorQuantization | None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Quantization:
    """The quantization of a network.

    Attributes
    ----------
    values : dict of str to TensorQuantization
        For ``image`` and every part of the plan.
    kernels : dict of str to TensorQuantization
        For every layer with weights.
    pooling : {"average_pool", "mean"}
        How a global pool rounds: keeping its input's scale, or with a scale of its own.
    interface : Interface, optional
        Of the TFLite file that the network comes from.
    arithmetic : {"xnnpack", "reference", "fakequant"}
        What the file's own runtime computes in.
    exponents : dict of str to tuple of int
        Of values that cross-layer equalization divided by powers of two (`npmnv2.weights.equalize`), channel by
        channel: real = 2^exponent · scale · (q − zero_point).
    """

    values: Mapping[str, TensorQuantization]
    kernels: Mapping[str, TensorQuantization]
    pooling: str = "average_pool"
    interface: Interface | None = None
    arithmetic: str = XNNPACK
    exponents: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def of_layer(self, part: Part) -> tuple[TensorQuantization, TensorQuantization, TensorQuantization]:
        """Quantization of a layer's input, kernel and output."""
        return self.values[part.inputs[0]], self.kernels[part.name], self.values[part.name]

    def restored(self, name: str, values: Array) -> Array:
        """The real numbers of a value as they were before equalization."""
        return np.ldexp(values, self.exponents[name]) if name in self.exponents else values

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it; float32 scales survive as they are."""
        interface = self.interface
        return {
            "values": {name: _to_json(q) for name, q in self.values.items()},
            "kernels": {name: _to_json(q) for name, q in self.kernels.items()},
            "pooling": self.pooling,
            "arithmetic": self.arithmetic,
            **({"exponents": dict(self.exponents)} if self.exponents else {}),
            "interface": interface
            and {
                "shape": interface.shape,
                "input": interface.input and _to_json(interface.input),
                "steps": [[type(step).__name__, _step_to_json(step)] for step in interface.steps],
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Quantization:
        """What `to_json` made; raises KeyError, TypeError or ValueError for anything else."""
        interface = data["interface"]
        return cls(
            {str(name): _from_json(q) for name, q in data["values"].items()},
            {str(name): _from_json(q) for name, q in data["kernels"].items()},
            str(data["pooling"]),
            interface
            and Interface(
                tuple(map(int, interface["shape"])),
                interface["input"] and _from_json(interface["input"]),
                tuple(_step_from_json(*step) for step in interface["steps"]),
            ),
            str(data["arithmetic"]),
            {str(name): _tuple(list(exponents)) for name, exponents in data.get("exponents", {}).items()},
        )


def _to_json(q: TensorQuantization) -> list[Any]:
    # The shortest decimal fraction that is read as the same float32.
    scales = [float(str(np.float32(scale))) for scale in q.scale]
    return [scales[0] if len(scales) == 1 else scales, q.zero_point, q.dtype, q.activation]


def _from_json(entry: Any) -> TensorQuantization:
    scale, zero_point, dtype, activation = entry
    scales = tuple(float(np.float32(s)) for s in (scale if isinstance(scale, list) else [scale]))
    if dtype not in ("uint8", "int8") or activation not in ("linear", "relu", "relu6"):
        raise ValueError(f"unknown type or activation {dtype!r}, {activation!r}")
    return TensorQuantization(scales, int(zero_point), dtype, activation)


def _step_to_json(step: Step) -> dict[str, Any]:
    fields = asdict(step)
    return {**fields, "output": _to_json(step.output)} if isinstance(step, (Softmax, Logistic, Requantize)) else fields


def _step_from_json(name: str, fields: Mapping[str, Any]) -> Step:
    made: dict[str, Any] = {
        key: _from_json(value) if key == "output" else _tuple(value) for key, value in fields.items()
    }
    return _STEPS[name](**made)


def _tuple(value: Any) -> Any:
    return tuple(map(int, value)) if isinstance(value, list) else value


# --- what can be wrong -----------------------------------------------------------------------------------------------


def check_quantization(
    plan: Plan, weights: Mapping[str, Any], quantization: Quantization, where: str = "weights"
) -> None:
    """Refuse what no arithmetic could run, and report everything that is wrong at once.

    Raises
    ------
    WeightsError
        If a scale is not a usable number, a zero point lies outside its type, per-channel scales do not fit, types do
        not go together, or a sum can leave the range of int32.
    """
    problems = [*_missing(plan, quantization)] or [*_impossible(quantization), *_wrong_exponents(plan, quantization)]
    if not problems:
        problems = [problem for part in value_parts(plan) for problem in _misfits(part, weights, quantization)]
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise WeightsError(f"{where}: cannot be run in integers: {'; '.join(problems[:8])}{more}")


def _missing(plan: Plan, quantization: Quantization) -> Iterator[str]:
    for name in (IMAGE, *(part.name for part in value_parts(plan))):
        if name not in quantization.values:
            yield f"{name} has no quantization"
    for part in value_parts(plan):
        if isinstance(part.layer, (Conv, Depthwise, Dense)) and part.name not in quantization.kernels:
            yield f"the kernel of {part.name} has no quantization"
    if quantization.arithmetic not in ARITHMETICS:
        yield f"arithmetic (={quantization.arithmetic!r}) must be one of {', '.join(ARITHMETICS)}"
    if quantization.pooling not in POOLINGS:
        yield f"pooling (={quantization.pooling!r}) must be one of {', '.join(POOLINGS)}"


def _impossible(quantization: Quantization) -> Iterator[str]:
    kernels = {f"the kernel of {name}": q for name, q in quantization.kernels.items()}
    for name, q in {**quantization.values, **kernels}.items():
        low, high = q.limits
        bad = [s for s in q.scale if not (math.isfinite(s) and s > 0)]
        if bad or not q.scale:
            yield f"{name} has the scale {bad[0] if bad else None}, scales must be finite and above 0"
        if not low <= q.zero_point <= high:
            yield f"{name} has the zero point {q.zero_point}, which {q.dtype} cannot hold"
        if name in quantization.values and len(q.scale) > 1:
            yield f"{name} has {len(q.scale)} scales, only kernels may have one per channel"


def _wrong_exponents(plan: Plan, quantization: Quantization) -> Iterator[str]:
    if not quantization.exponents:
        return
    shapes = plan.shapes(LARGE_IMAGE, LARGE_IMAGE)
    for name, exponents in quantization.exponents.items():
        channels = shapes[name][-1] if name in quantization.values and name in shapes else 0
        if len(exponents) != channels:
            yield f"{name} has {len(exponents)} exponents for {channels} channels"
        elif max(map(abs, exponents)) > _LARGEST_EXPONENT:
            farthest, limit = max(exponents, key=abs), _LARGEST_EXPONENT
            yield f"{name} has the exponent {farthest}, exponents must be from −{limit} to {limit}"


def _misfits(part: Part, weights: Mapping[str, Any], quantization: Quantization) -> Iterator[str]:
    name, layer, inputs = part
    output = quantization.values[name]
    sources = [quantization.values[source] for source in inputs]
    dtypes = {q.dtype for q in (*sources, output)}
    if len(dtypes) > 1:
        yield f"{name} mixes {' and '.join(sorted(dtypes))}"
    elif isinstance(layer, (Conv, Depthwise, Dense)):
        yield from _layer_misfits(part, weights, quantization)
    elif isinstance(layer, (AveragePool, Concat)) and any(_differ(q, output) for q in sources):
        yield f"{name} changes the scale, which {type(layer).__name__} cannot"
    elif not isinstance(layer, ResizeLike) and not _factors_fit([q.scale[0] / output.scale[0] for q in sources]):
        yield f"{name} has the scale {output.scale[0]:g} for inputs of {', '.join(f'{q.scale[0]:g}' for q in sources)}"


def _layer_misfits(part: Part, weights: Mapping[str, Any], quantization: Quantization) -> Iterator[str]:
    source, filters, output = quantization.of_layer(part)
    kernel, bias = weights[f"{part.name}/kernel"], weights[f"{part.name}/bias"]
    channels = bias.shape[0]
    if len(filters.scale) not in (1, channels):
        yield f"the kernel of {part.name} has {len(filters.scale)} scales for {channels} channels"
    elif (kernel.dtype.name, bias.dtype.name) != (source.dtype, "int32") or filters.dtype != source.dtype:
        yield f"{part.name} has a {kernel.dtype.name} kernel, a {bias.dtype.name} bias and {source.dtype} inputs"
    elif filters.dtype == "int8" and filters.zero_point:
        yield f"the kernel of {part.name} has the zero point {filters.zero_point}, int8 kernels must have 0"
    elif not _factors_fit([source.scale[0] * scale / output.scale[0] for scale in filters.scale]):
        yield (
            f"{part.name} multiplies its sums by up to {source.scale[0] * max(filters.scale) / output.scale[0]:g}, "
            f"factors must be from 2⁻³¹ to {_LARGEST_FACTOR:g}"
        )
    else:
        flat = kernel[..., 0] if isinstance(part.layer, Depthwise) else kernel
        largest = quantized.largest_sum(flat, source, filters) + int(np.abs(bias.astype(np.int64)).max())
        if largest >= _INT32:
            yield f"the sums of {part.name} can reach {largest}, beyond int32"


def _factors_fit(factors: list[float]) -> bool:
    return all(_SMALLEST_FACTOR <= factor < _LARGEST_FACTOR for factor in factors)


def _differ(a: TensorQuantization, b: TensorQuantization) -> bool:
    return (a.scale, a.zero_point) != (b.scale, b.zero_point)


# --- as a table ------------------------------------------------------------------------------------------------------


class QuantizationRow(NamedTuple):
    """One line of `quantization_rows`."""

    name: str
    scale: float
    zero_point: int
    dtype: str
    low: float
    high: float
    kernel: str


def quantization_rows(
    plan: Plan, quantization: Quantization, arithmetic: Arithmetic = "xnnpack"
) -> list[QuantizationRow]:
    """Scale, zero point and range of every value, and the quantization of the kernel that made it."""
    rows = []
    for name in (IMAGE, *(part.name for part in value_parts(plan))):
        q = quantization.values[name]
        low, high = ((limit - q.zero_point) * q.scale[0] for limit in quantized.clip_range(q, arithmetic))
        kernel = quantization.kernels.get(name)
        rows.append(QuantizationRow(name, q.scale[0], q.zero_point, q.dtype, low, high, _kernel_text(kernel)))
    return rows


def _kernel_text(kernel: TensorQuantization | None) -> str:
    if kernel is None:
        return ""
    if len(kernel.scale) == 1:
        return f"{kernel.scale[0]:.6g} · (q − {kernel.zero_point})"
    return f"{min(kernel.scale):.3g} … {max(kernel.scale):.3g}, {len(kernel.scale)} channels"


def quantization_table(plan: Plan, quantization: Quantization) -> str:
    """The rows as a text for people: real = scale · (q − zero point)."""
    lines = [f"{'value':28} {'type':6} {'scale':>12} {'zero':>5} {'range':>21}  kernel"]
    for row in quantization_rows(plan, quantization):
        reach = f"{row.low:9.4f} … {row.high:9.4f}"
        lines.append(f"{row.name:28} {row.dtype:6} {row.scale:12.8f} {row.zero_point:5} {reach}  {row.kernel}".rstrip())
    return "\n".join(lines)
