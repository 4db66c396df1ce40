"""Adapters for quantized networks: ours and LiteRT on one file, the others on what their own tools make.

The others calibrate on the same images as we do, per channel, with the settings that their documentation recommends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import prepared
from network import IMAGE, Network, Weights

from npmnv2.backends.selection import get_quantized_backend
from npmnv2.kernels import quantized
from npmnv2.network.quantization import Interface, Quantization
from npmnv2.weights.checkpoint import Checkpoint, fold_batch_norms
from npmnv2.weights.quantize import quantize_network
from npmnv2.weights_tools import tflite_bytes

from .adapters import (
    OURS,
    OURS_IN_FLOAT,
    LiteRT,
    OnnxRuntime,
    OpenVino,
    OpenVinoStreams,
    Ours,
    Runtime,
    channels_first,
)

CALIBRATION_IMAGES = 4
# How far trained ranges of kernels reach beyond the weights at one end. Published networks have zero points from 52 to
# 201, where random weights alone would have 128.
_MARGIN = 0.6


class Integers:
    """A network's random weights in integers, as `Checkpoint` and TFLite file, and the images in the file's type."""

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, dtype: str) -> None:
        ranges = _ranges(network, weights)
        if dtype == "uint8":
            ranges |= _kernel_ranges(weights)
        pooling = "average_pool" if dtype == "uint8" else "mean"
        folded = fold_batch_norms(network.plan, weights)
        canonical, found = quantize_network(network.plan, folded, ranges, dtype, pooling)
        image = found.values[IMAGE]
        self.quantization: Quantization = replace(found, interface=Interface((1, *network.input_shape), image))
        self.weights, self.images, self.output = canonical, quantized.quantize(images, image), network.outputs[0]
        self.shape = network.steps[-1].shape

    def file(self, network: Network) -> bytes:
        """What LiteRT runs."""
        task = "segmentation" if "logits_semantic/kernel" in self.weights else "classification"
        return tflite_bytes(Checkpoint(self.weights, task, network.config, quantization=self.quantization))

    def real(self, outputs: list[np.ndarray]) -> np.ndarray:
        """The logits that an output stands for."""
        (output,) = outputs
        logits = quantized.dequantize(output, self.quantization.values[self.output])
        return logits.reshape(len(output), *self.shape)


def calibration_images(network: Network) -> np.ndarray:
    shape = (CALIBRATION_IMAGES, *network.input_shape)
    return np.random.default_rng(2).uniform(-1, 1, shape).astype(np.float32)


def _ranges(network: Network, weights: Weights) -> dict[str, tuple[float, float]]:
    names = [step.name for step in network.steps]
    executable = Ours(network, weights, calibration_images(network), 1).executable
    ranges = {IMAGE: (-1.0, 127 / 128)}
    for image in calibration_images(network):
        for name, value in executable(image[None], names).items():
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
    return ranges


def _kernel_ranges(weights: Weights) -> dict[str, tuple[float, float]]:
    rng = np.random.default_rng(3)
    ranges = {}
    for name in (name for name in weights if name.endswith("/kernel")):
        low, high = 1 + _MARGIN * rng.uniform() * rng.permutation([0, 1])
        ranges[name] = float(weights[name].min()) * low, float(weights[name].max()) * high
    return ranges


class OursInIntegers(Runtime):
    """npmnv2 in XNNPACK's arithmetic."""

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int, dtype: str) -> None:
        self.integers = Integers(network, weights, images, dtype)
        backend = get_quantized_backend("auto", np.float32, self.integers.quantization)
        self.executable: Any = backend.compile(network.plan, self.integers.weights, threads)

    def run(self) -> list[np.ndarray]:
        return [self.executable.invoke(self.integers.images)]

    def logits(self, outputs: list[np.ndarray]) -> np.ndarray:
        return self.integers.real(outputs)


class LiteRTInIntegers(LiteRT):
    """LiteRT with its default delegate, XNNPACK, on the same integers."""

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int, dtype: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.integers = Integers(network, weights, images, dtype)
        self.interpreter = Interpreter(model_content=self.integers.file(network), num_threads=threads)
        source = self.interpreter.get_input_details()[0]["index"]
        self.interpreter.resize_tensor_input(source, images.shape)
        self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(source, self.integers.images)
        self.outputs = [self.interpreter.get_output_details()[0]["index"]]

    def logits(self, outputs: list[np.ndarray]) -> np.ndarray:
        return self.integers.real(outputs)


class _Quantizer:
    """Keeps the network for `model`, which its runtime calls while it is set up."""

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        self.network = network
        super().__init__(network, weights, images, threads)  # type: ignore[call-arg]

    def batches(self) -> list[np.ndarray]:
        """Calibration images, one at a time."""
        return [channels_first(image[None]) for image in calibration_images(self.network)]


class OnnxRuntimeQdq(_Quantizer, OnnxRuntime):
    """ONNX Runtime on a graph with QuantizeLinear and DequantizeLinear: activations uint8, weights int8 per channel."""

    activations = "QUInt8"

    def model(self, model: bytes) -> bytes:
        name = f"{self.network.name} {self.activations} onnx"
        return (prepared.models(name, lambda folder: self.quantize(model, folder)) / "model.onnx").read_bytes()

    def quantize(self, model: bytes, folder: Path) -> None:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        batches = iter([{IMAGE: batch} for batch in self.batches()])

        class Reader(quantization.CalibrationDataReader):
            def get_next(self) -> Any:
                return next(batches, None)

        logging.getLogger().setLevel(logging.ERROR)
        start, ready = folder / "start.onnx", folder / "ready.onnx"
        start.write_bytes(model)
        quant_pre_process(start, ready)
        quantization.quantize_static(
            ready,
            folder / "model.onnx",
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=getattr(quantization.QuantType, self.activations),
            weight_type=quantization.QuantType.QInt8,
        )
        start.unlink()
        ready.unlink()


class OnnxRuntimeSigned(OnnxRuntimeQdq):
    """The same with activations of int8, the better choice on some processors."""

    activations = "QInt8"


class OpenVinoNncf(_Quantizer, OpenVino):
    """OpenVINO on what NNCF makes for speed."""

    def model(self, model: Any) -> Any:
        import openvino

        folder = prepared.models(f"{self.network.name} nncf", lambda folder: self.quantize(model, folder))
        return openvino.Core().read_model(folder / "model.xml")

    def quantize(self, model: Any, folder: Path) -> None:
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        batches = self.batches()
        model.reshape(batches[0].shape)
        made = nncf.quantize(
            model,
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(batches),
        )
        openvino.save_model(made, folder / "model.xml", compress_to_fp16=False)


class OpenVinoNncfStreams(OpenVinoNncf, OpenVinoStreams):
    """The same with the hint for throughput: the batch is split between two streams."""


def runtimes(dtype: str) -> dict[str, Callable[..., Runtime]]:
    """All adapters by name; our float network is there to compare with."""
    return {
        "litert": partial(LiteRTInIntegers, dtype=dtype),
        "onnxruntime": OnnxRuntimeQdq,
        "onnxruntime, signed": OnnxRuntimeSigned,
        "openvino": OpenVinoNncf,
        "openvino, 2 streams": OpenVinoNncfStreams,
        OURS_IN_FLOAT: Ours,
        OURS: partial(OursInIntegers, dtype=dtype),
    }
