"""Wholly quantized TFLite models: integers and what they stand for, matched to the plan part by part.

`tflite.Walk` has found which convolution is which layer. Here every part of the plan gets the operator that computes it
and the quantization of that operator's output; what remains of the graph, before and after, must be the file's
interface. An operator that is neither is an error, so that nothing of a file is silently left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.kernels import TensorQuantization, Variant
from npmnv2.network.layers import Add, Concat, ConcatRows, Conv, Dense, Depthwise, GlobalAveragePool, ResizeLike
from npmnv2.network.plan import IMAGE, Part, Plan
from npmnv2.network.quantization import (
    ArgMax,
    Dequantize,
    Interface,
    Logistic,
    Quantization,
    Requantize,
    Reshape,
    Resize,
    Softmax,
    Step,
    check_quantization,
    value_parts,
)
from npmnv2.network.ssd import BOX_ENCODINGS
from npmnv2.weights.assemble import in_order, plan_for
from npmnv2.weights.bounds import Array, damaged
from npmnv2.weights.checkpoint import Checkpoint

from .tflite import _ACTIVATIONS, _VALID_PADDING, Model, Operator, Walk, _canonical_kernel

_INTEGERS = ("uint8", "int8")
# A detector's preset goes from bytes to −1…1 in one step; statistics are of pixels from 0 to 1.
_SCALED: dict[str, dict[str, Any]] = {"detection": {"rescale_factor": 1 / 255, "rescale_first": True}}
# TensorFlow Lite's own limit for the difference between a bias's scale and that of its sums, in the output's scale.
_BIAS_TOLERANCE = 0.02


def is_quantized(walk: Walk) -> bool:
    """Whether the layers take integers.

    Raises
    ------
    WeightsError
        If some do and some do not, or if the integers have 16 bits.
    """
    dtypes = {walk.model.dtype(operator.inputs[0]): layer for layer, operator in walk.operators.items()}
    if len(dtypes) > 1:
        mixed = " and ".join(f"{layer} takes {dtype}" for dtype, layer in dtypes.items())
        raise WeightsError(f"{walk.model.path}: is quantized in part only, which is not supported: {mixed}")
    (dtype,) = dtypes
    if dtype not in (*_INTEGERS, "float32", "float16"):
        raise WeightsError(f"{walk.model.path}: has {dtype} activations, only {' and '.join(_INTEGERS)} are supported")
    return dtype in _INTEGERS


def with_integers(walk: Walk, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the file's integers instead of the real numbers that they stand for."""
    assert checkpoint.config is not None
    plan = plan_for(checkpoint.config, checkpoint.weights)
    match = Match(walk, plan)
    try:
        quantization = match.run()
    except (IndexError, OverflowError) as error:
        # Operators without inputs or results, maps without height and width.
        raise damaged(walk.model.path, f"an operator of the graph is incomplete: {error}") from None
    weights = in_order(plan, match.weights)
    check_quantization(plan, weights, quantization, str(walk.model.path))
    match.check_biases()
    image = quantization.values[IMAGE] if match.input is None else match.input
    return replace(
        checkpoint,
        weights=weights,
        quantization=quantization,
        preprocessing={**checkpoint.preprocessing, **_SCALED.get(checkpoint.task, {}), **pixel_statistics(image)},
    )


def pixel_statistics(image: TensorQuantization) -> dict[str, Any]:
    """Mean and deviation, of pixels scaled to 0…1, by which a pixel's value becomes the integer of the same value."""
    # An int8 image is a uint8 image less 128.
    zero = image.zero_point + (128 if image.dtype == "int8" else 0)
    return {"image_mean": [zero / 255] * 3, "image_std": [1 / (255 * image.scale[0])] * 3}


@dataclass
class Match:
    """The plan laid over the graph.

    Attributes
    ----------
    tensors : dict
        Number of the tensor that holds each value of the plan.
    values, kernels, weights : dict
        What was found.
    input : TensorQuantization or None
        Of the file's input, where it is not that of the network's image.
    """

    walk: Walk
    plan: Plan
    tensors: dict[str, int] = field(default_factory=dict)
    values: dict[str, TensorQuantization] = field(default_factory=dict)
    kernels: dict[str, TensorQuantization] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)
    pooling: str = "average_pool"
    input: TensorQuantization | None = None
    used: set[int] = field(default_factory=set)

    @property
    def model(self) -> Model:
        """The file."""
        return self.walk.model

    def run(self) -> Quantization:
        """Match everything, and refuse what is left over."""
        detector = self.walk.head.postprocess
        outputs = self.model.outputs[:1] if detector is None else detector.outputs
        if len(self.model.inputs) != 1 or self.model.outputs != outputs:
            expected = "one each" if detector is None else "one and those of the detector"
            raise self._error(
                f"has {len(self.model.inputs)} inputs and {len(self.model.outputs)} outputs, not {expected}"
            )
        self._image()
        for part in value_parts(self.plan):
            _PARTS[type(part.layer)](self, part)
        last = self.tensors[[part.name for part in value_parts(self.plan)][-1]]
        if detector is None:
            steps = tuple(self._steps(last, self.model.outputs[0]))
        else:
            boxes, scores = self._take(detector).inputs[:2]
            self._reshaped(self.tensors[BOX_ENCODINGS], boxes)
            steps = tuple(self._steps(last, scores))
        left = [op.kind for op in self.model.operators if id(op) not in self.used]
        if left:
            raise self._error(f"has operators that are no part of a quantized MobileNetV2: {', '.join(left)}")
        interface = Interface(self.model.shape(self.model.inputs[0]), self.input, steps)
        return Quantization(self.values, self.kernels, self.pooling, interface)

    def _error(self, problem: str) -> WeightsError:
        return WeightsError(f"{self.model.path}: {problem}")

    def _map_size(self, number: int) -> tuple[int, int]:
        """Height and width of a tensor, which must be a map."""
        shape = self.model.shape(number)
        if len(shape) != 4:
            raise self._error(f"{self.model.name(number)!r} must be a map (1, H, W, C), has the shape {shape}")
        return shape[1], shape[2]

    # --- tensors and operators ---------------------------------------------------------------------------------------

    def _quantization(self, number: int, activation: str = "linear") -> TensorQuantization:
        name, dtype, scales = self.model.name(number), self.model.dtype(number), self.model.scales(number)
        if dtype not in _INTEGERS:
            raise self._error(f"tensor {name!r} is {dtype}, must be {' or '.join(_INTEGERS)}")
        if scales is None:
            raise self._error(f"tensor {name!r} has no scale")
        zero_points = set(scales.zero_point.tolist())
        if len(zero_points) > 1:
            raise self._error(f"tensor {name!r} has a zero point per channel, which is not supported")
        return TensorQuantization(tuple(scales.scale.tolist()), zero_points.pop(), dtype, activation)

    def _take(self, operator: Operator) -> Operator:
        self.used.add(id(operator))
        return operator

    def _readers(self, number: int) -> list[Operator]:
        return [op for op in self.model.operators if number in op.inputs and id(op) not in self.used]

    def _only(self, part: Part, kinds: tuple[str, ...], sources: tuple[int, ...]) -> Operator:
        """The one operator of these kinds that takes these tensors."""
        found = [
            op
            for op in self.model.operators
            if op.kind in kinds and id(op) not in self.used and op.inputs[: len(sources)] == sources
        ]
        if len(found) != 1:
            names = " and ".join(repr(self.model.name(number)) for number in sources)
            raise self._error(f"{part.name} must be one {' or '.join(kinds)} of {names}, found {len(found)}")
        return self._take(found[0])

    def _store(self, part: Part, operator: Operator, activation: int = 0) -> None:
        number = operator.outputs[0]
        if activation and activation not in _ACTIVATIONS:
            raise self._error(f"{part.name} has the fused activation {activation}, must be ReLU, ReLU6 or none")
        self.tensors[part.name] = number
        self.values[part.name] = self._quantization(number, _ACTIVATIONS.get(activation, "linear"))

    def _sources(self, part: Part) -> tuple[int, ...]:
        return tuple(self.tensors[name] for name in part.inputs)

    # --- the parts ---------------------------------------------------------------------------------------------------

    def _image(self) -> None:
        """The file's input, and a QUANTIZE that makes the network's image of it."""
        number = self.model.inputs[0]
        dtype = self.model.dtype(number)
        readers = self._readers(number)
        if len(readers) == 1 and readers[0].kind == "QUANTIZE":
            image = self._take(readers[0]).outputs[0]
            self.input = None if dtype == "float32" else self._quantization(number)
        else:
            image, self.input = number, self._quantization(number)
        self.tensors[IMAGE], self.values[IMAGE] = image, self._quantization(image)

    def _convolution(self, part: Part) -> None:
        operator = self._take(self.walk.operators[part.name])
        self._check_source(part, operator)
        kernel, bias = (self._constant(operator, at, part) for at in (1, 2))
        self.kernels[part.name] = filters = self._quantization(operator.inputs[1])
        axis = 3 if isinstance(part.layer, Depthwise) else 0
        scales = self.model.scales(operator.inputs[1])
        if len(filters.scale) > 1 and scales is not None and scales.axis != axis:
            raise self._error(f"the kernel of {part.name} has its scales along axis {scales.axis}, must be {axis}")
        canonical = _canonical_kernel(operator, part.name, kernel)
        self.weights |= {f"{part.name}/kernel": canonical, f"{part.name}/bias": bias.reshape(-1)}
        self._store(part, operator, operator.activation)

    def _constant(self, operator: Operator, at: int, part: Part) -> Array:
        if len(operator.inputs) <= at or operator.inputs[at] < 0:
            raise self._error(f"{part.name} has no bias")
        value = self.model.constant(operator.inputs[at])
        if value is None:
            raise self._error(f"the weights of {part.name} are not constant")
        return value.astype(value.dtype.newbyteorder("="))

    def check_biases(self) -> None:
        """A bias must have the unit of its sums, or TensorFlow Lite would refuse the file."""
        for part in value_parts(self.plan):
            if part.name in self.kernels:
                self._check_bias(part, self.walk.operators[part.name])

    def _check_bias(self, part: Part, operator: Operator) -> None:
        bias = self.model.scales(operator.inputs[2])
        if bias is None:
            return
        source, output = self.values[part.inputs[0]], self.values[part.name]
        sums = source.scale[0] * np.array(self.kernels[part.name].scale)
        if bias.scale.size not in (1, sums.size) or (bias.zero_point != 0).any():
            raise self._error(f"the bias of {part.name} has {bias.scale.size} scales or a zero point other than 0")
        if not (np.abs(bias.scale - sums) <= _BIAS_TOLERANCE * output.scale[0]).all():
            raise self._error(f"the bias of {part.name} has a scale other than that of its input times its kernel's")

    def _check_source(self, part: Part, operator: Operator) -> None:
        """Only a padding and changes of shape may stand between a value and the convolution that takes it."""
        (number,) = self._sources(part)
        taken = operator.inputs[0]
        pads: tuple[Any, ...] = ((0, 0), (0, 0))
        while taken != number:
            between = next((op for op in self.model.operators if taken in op.outputs), None)
            if between is None or between.kind not in ("PAD", "RESHAPE", "SQUEEZE"):
                kind = "something else" if between is None else between.kind
                raise self._error(f"{part.name} must take {self.model.name(number)!r}, takes the result of {kind}")
            self._take(between)
            if between.kind == "PAD":
                rows = self.walk._argument(between, 1)
                pads = (tuple(map(int, rows[1])), tuple(map(int, rows[2])))
            taken = between.inputs[0]
        if isinstance(part.layer, (Conv, Depthwise)) and operator.kind != "FULLY_CONNECTED":
            self._check_padding(part, operator, pads)

    def _check_padding(self, part: Part, operator: Operator, pads: tuple[Any, ...]) -> None:
        assert isinstance(part.layer, (Conv, Depthwise))
        shape = self.model.shape(self.tensors[part.inputs[0]])
        ours = part.layer.geometry(*shape[1:3]).padding if len(shape) == 4 else pads
        same = operator.option(0, "int8") != _VALID_PADDING
        if pads != ((0, 0), (0, 0)) if same else pads != ours:
            raise self._error(f"{part.name} is padded by {pads}, a MobileNetV2 pads by {ours}")

    def _add(self, part: Part) -> None:
        first, second = self._sources(part)
        swapped = any(op.kind == "ADD" and op.inputs == (second, first) for op in self.model.operators)
        operator = self._only(part, ("ADD",), (second, first) if swapped else (first, second))
        self._store(part, operator, operator.option(0, "int8"))

    def _global_pool(self, part: Part) -> None:
        sources = self._sources(part)
        operator = self._only(part, ("AVERAGE_POOL_2D", "MEAN"), sources)
        height, width = self._map_size(sources[0])
        self.pooling = "mean" if operator.kind == "MEAN" else "average_pool"
        # Slots of Pool2DOptions: padding, strides, then the window's width and height.
        if operator.kind == "AVERAGE_POOL_2D" and (operator.option(4), operator.option(3)) != (height, width):
            raise self._error(f"{part.name} pools over less than the whole map of {height}×{width}")
        if operator.kind == "MEAN" and sorted(self.walk._argument(operator, 1).reshape(-1).tolist()) != [1, 2]:
            raise self._error(f"{part.name} must be a mean over height and width")
        self._store(part, operator)

    def _concat(self, part: Part) -> None:
        self._store(part, self._only(part, ("CONCATENATION",), self._sources(part)))

    def _concat_rows(self, part: Part) -> None:
        rows = tuple(self._reshaped(number) for number in self._sources(part))
        self._store(part, self._only(part, ("CONCATENATION",), rows))

    def _reshaped(self, number: int, end: int | None = None) -> int:
        """The tensor that changes of shape make of one, as far as `end` or as they go."""
        while number != end:
            readers = self._readers(number)
            if end is None and (len(readers) != 1 or readers[0].kind != "RESHAPE"):
                break
            if len(readers) != 1 or readers[0].kind not in ("RESHAPE", "SQUEEZE"):
                raise self._error(f"{self.model.name(number)!r} must only be reshaped before boxes are chosen")
            after = self._take(readers[0]).outputs[0]
            if self._quantization(after) != self._quantization(number):
                raise self._error(f"{self.model.name(after)!r} is a RESHAPE to another scale")
            number = after
        return number

    def _resize_like(self, part: Part) -> None:
        source, _ = self._sources(part)
        assert isinstance(part.layer, ResizeLike)
        operator = self._only(part, ("RESIZE_BILINEAR",), (source,))
        if _variant(operator) != part.layer.variant:
            raise self._error(f"{part.name} resizes as {_variant(operator)}, a MobileNetV2 as {part.layer.variant}")
        self._check_resize(operator)
        following = self._readers(operator.outputs[0])
        if len(following) == 1 and following[0].kind == "QUANTIZE":
            operator = self._take(following[0])
        self._store(part, operator)

    def _check_resize(self, operator: Operator) -> None:
        before, after = (self._quantization(number) for number in (operator.inputs[0], operator.outputs[0]))
        if before != after:
            raise self._error(
                f"a RESIZE_BILINEAR goes from the scale {before.scale[0]:g} to {after.scale[0]:g} without a QUANTIZE: "
                "the kernels copy the integers, so this branch of the network is scaled wrongly. Convert the file anew"
            )

    # --- after the plan ----------------------------------------------------------------------------------------------

    def _steps(self, number: int, end: int) -> Iterator[Step]:
        """What the file does with the plan's last value."""
        while number != end:
            readers = self._readers(number)
            if len(readers) != 1 or readers[0].kind not in _STEPS:
                kinds = ", ".join(op.kind for op in readers) or "nothing"
                raise self._error(
                    f"{self.model.name(number)!r} is followed by {kinds}, must be one of {', '.join(_STEPS)}"
                )
            operator = self._take(readers[0])
            number = operator.outputs[0]
            yield _STEPS[operator.kind](self, operator)

    def _resize(self, operator: Operator) -> Step:
        self._check_resize(operator)
        return Resize(self._map_size(operator.outputs[0]), _variant(operator))

    def _arg_max(self, operator: Operator) -> Step:
        rank = len(self.model.shape(operator.inputs[0]))
        if int(self.walk._argument(operator, 1).reshape(-1)[0]) not in (-1, rank - 1):
            raise self._error("ARG_MAX must go along the channels")
        return ArgMax(self.model.dtype(operator.outputs[0]))

    def _reshape(self, operator: Operator) -> Step:
        return Reshape(self.model.shape(operator.outputs[0]))


def _variant(operator: Operator) -> Variant:
    # Slots of ResizeBilinearOptions; the first two are no longer in use.
    if operator.option(2, "bool", False):
        return "tf1_align_corners"
    return "half_pixel" if operator.option(3, "bool", False) else "tf1"


def _softmax(match: Match, operator: Operator) -> Step:
    beta = operator.options.scalar(0, "float32", 0.0) if operator.options else 1.0
    return Softmax(_shares(match, operator), float(beta))


def _logistic(match: Match, operator: Operator) -> Step:
    return Logistic(_shares(match, operator))


def _shares(match: Match, operator: Operator) -> TensorQuantization:
    """The output of an operator that makes numbers from 0 to 1."""
    output = match._quantization(operator.outputs[0])
    if (output.scale, output.zero_point) != ((1 / 256,), output.limits[0]):
        raise match._error(f"{operator.kind} must have the scale 1/256 and the smallest integer for 0")
    return output


_PARTS: dict[type[Any], Callable[[Match, Part], None]] = {
    Conv: Match._convolution,
    Depthwise: Match._convolution,
    Dense: Match._convolution,
    Add: Match._add,
    Concat: Match._concat,
    ConcatRows: Match._concat_rows,
    GlobalAveragePool: Match._global_pool,
    ResizeLike: Match._resize_like,
}
_STEPS: dict[str, Callable[[Match, Operator], Step]] = {
    "RESHAPE": Match._reshape,
    "SQUEEZE": Match._reshape,
    "SOFTMAX": _softmax,
    "LOGISTIC": _logistic,
    "QUANTIZE": lambda match, operator: Requantize(match._quantization(operator.outputs[0])),
    "DEQUANTIZE": lambda match, operator: Dequantize(),
    "RESIZE_BILINEAR": Match._resize,
    "ARG_MAX": Match._arg_max,
}
