"""Post-training quantization of a model: calibration on photos, integers, and the interface of a TFLite file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from npmnv2.errors import ArgumentError
from npmnv2.images.processor import MobileNetV2ImageProcessor
from npmnv2.kernels import Array, TensorQuantization
from npmnv2.network.plan import IMAGE, Plan
from npmnv2.network.quantization import (
    ArgMax,
    Interface,
    Logistic,
    Requantize,
    Reshape,
    Resize,
    Softmax,
    Step,
    value_parts,
)
from npmnv2.weights.calibration import Calibration, check_method
from npmnv2.weights.checkpoint import Checkpoint, fold_batch_norms
from npmnv2.weights.equalize import Exponents, equalize, find_exponents
from npmnv2.weights.quantize import quantize_network

_BYTE = 255


class Choices(NamedTuple):
    """How a network is quantized; see `MobileNetV2PreTrainedModel.quantize`."""

    method: str = "minmax"
    percentile: float = 99.99
    dtype: str = "int8"
    equalize: bool = False
    correct_biases: bool = True


Batches = Callable[[], Iterable[Array]]
Compile = Callable[[Mapping[str, Array]], Callable[[Array], dict[str, Array]]]


def quantized_checkpoint(
    checkpoint: Checkpoint,
    plan: Plan,
    processor: MobileNetV2ImageProcessor,
    compile: Compile,
    batches: Batches,
    choices: Choices,
) -> tuple[Checkpoint, MobileNetV2ImageProcessor]:
    """Quantize a network with the ranges that its values have on photos.

    Parameters
    ----------
    checkpoint, plan, processor
        Of the model.
    compile : callable
        From folded weights to a function from images (N, H, W, C) to the values of all parts by name.
    batches : callable
        Gives the images of all photos, each time it is called.
    choices : Choices

    Returns
    -------
    Checkpoint
        With integers.
    MobileNetV2ImageProcessor
        The processor, whose pixels now are whole steps of the image's scale where they can be.
    """
    check_method(choices.method, choices.percentile)
    folded: Mapping[str, Array] = fold_batch_norms(plan, checkpoint.weights)
    exponents: dict[str, Exponents] = {}
    if choices.equalize:
        seen, _, _ = _calibrated(compile(folded), batches, "minmax")
        exponents = find_exponents(plan, folded, seen, choices.dtype == "int8")
        folded = equalize(plan, folded, exponents)
    calibration, count, size = _calibrated(compile(folded), batches, choices.method)
    ranges = calibration.settle(choices.method, choices.percentile)
    statistics = _byte_statistics(processor)
    if statistics is not None:
        mean, deviation = statistics
        ranges[IMAGE] = (-mean / deviation, (1 - mean) / deviation)
    means = calibration.means if choices.correct_biases else None
    weights, quantization = quantize_network(plan, folded, ranges, choices.dtype, means=means)
    image = quantization.values[IMAGE]
    pixels = None
    if statistics is not None:
        pixels = _as_bytes(image)
        zero, scale = pixels.zero_point / _BYTE, 1 / (_BYTE * image.scale[0])
        channels = plan.channels
        processor = replace(processor, image_mean=(zero,) * channels, image_std=(scale,) * channels)
    interface = Interface((1, *size, plan.channels), pixels, _steps(checkpoint, size, choices.dtype))
    made = {"quantization": {**choices._asdict(), "photos": count}}
    return (
        replace(
            checkpoint,
            weights=weights,
            quantization=replace(
                quantization,
                interface=interface,
                exponents={name: tuple(found.tolist()) for name, found in exponents.items()},
            ),
            preprocessing=processor.to_preprocessing(),
            source={**checkpoint.source, **made},
        ),
        processor,
    )


def _calibrated(
    run: Callable[[Array], dict[str, Array]], batches: Batches, method: str
) -> tuple[Calibration, int, tuple[int, int]]:
    """What photos show, their number, and (height, width) of the last one."""
    calibration, count, size = Calibration(), 0, (0, 0)
    for x in batches():
        calibration.widen({IMAGE: x, **run(x)})
        count, size = count + len(x), (x.shape[1], x.shape[2])
    if not count:
        raise ArgumentError("photos must hold at least one photo to calibrate with")
    if method != "minmax":
        for x in batches():
            calibration.count({IMAGE: x, **run(x)})
    return calibration, count, size


def _byte_statistics(processor: MobileNetV2ImageProcessor) -> tuple[float, float] | None:
    """Mean and deviation of pixels scaled to 0…1, if they are those of all channels; else None."""
    means, deviations = (np.unique(np.asarray(x, float)) for x in (processor.image_mean, processor.image_std))
    plain = processor.do_rescale and processor.do_normalize and abs(processor.rescale_factor * _BYTE - 1) < 1e-9
    return (float(means[0]), float(deviations[0])) if plain and means.size == deviations.size == 1 else None


def _as_bytes(image: TensorQuantization) -> TensorQuantization:
    """The image as bytes: an int8 image is a uint8 image less 128."""
    return replace(image, dtype="uint8", zero_point=image.zero_point - image.limits[0])


def _steps(checkpoint: Checkpoint, size: tuple[int, int], dtype: str) -> tuple[Step, ...]:
    """Probabilities or scores as bytes for a classifier or detector, a label map for a segmenter."""
    low = int(np.iinfo(dtype).min)
    assert checkpoint.config is not None
    if checkpoint.task == "detection":
        shares = TensorQuantization((1 / 256,), low, dtype)
        converters: dict[str, tuple[Step, ...]] = {"sigmoid": (Logistic(shares),), "softmax": (Softmax(shares),)}
        return converters.get(checkpoint.config.ssd.score_converter, ())
    if checkpoint.task == "segmentation":
        return Resize(size, "tf1_align_corners"), ArgMax()
    if checkpoint.task != "classification" or not checkpoint.config.classes:
        return ()
    probabilities = TensorQuantization((1 / 256,), low, dtype)
    steps: tuple[Step, ...] = (Reshape((1, checkpoint.config.classes)), Softmax(probabilities))
    return steps if dtype == "uint8" else (*steps, Requantize(TensorQuantization((1 / 256,), 0)))


def value_names(plan: Plan) -> list[str]:
    """Names of all parts, whose ranges calibration needs."""
    return [part.name for part in value_parts(plan)]
