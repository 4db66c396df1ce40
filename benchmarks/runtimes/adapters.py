"""One small class per runtime: how it is set up at its best, and how it is called.

An adapter takes the network, its weights and the images, (batch, height, width, channels) float32, and leaves layout,
threads and everything else to what its runtime likes best. ``run`` does one inference of the whole batch and returns
the outputs as the runtime gives them; ``logits`` brings those to one array (batch, …, classes).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import prepared
from network import IMAGE, Network, Weights

from npmnv2.backends.selection import get_backend
from npmnv2.weights.checkpoint import fold_batch_norms


class Unsuitable(Exception):
    """This runtime has nothing to run here, for a reason that is not an error."""


def channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


class Runtime:
    """What all adapters are."""

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        raise NotImplementedError

    def run(self) -> list[np.ndarray]:
        raise NotImplementedError

    def logits(self, outputs: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.asarray(output) for output in outputs], axis=-1)


class Ours(Runtime):
    """npmnv2."""

    backend, precision = "compiled", "float32"

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        backend = get_backend(self.backend, precision=self.precision)
        self.executable = backend.compile(network.plan, fold_batch_norms(network.plan, weights), threads)
        self.images, self.outputs = images, network.outputs

    def run(self) -> list[np.ndarray]:
        values = self.executable(self.images, self.outputs)
        return [values[name] for name in self.outputs]


class OursOnNumpy(Ours):
    """npmnv2 without Numba; the threads are those of NumPy's matrix product."""

    backend = "numpy"


class ChannelsFirst(Runtime):
    """A runtime whose maps are (batch, classes, height, width)."""

    def logits(self, outputs: list[np.ndarray]) -> np.ndarray:
        return super().logits([o.transpose(0, 2, 3, 1) if o.ndim == 4 else o for o in outputs])


class OnnxRuntime(ChannelsFirst):
    """ONNX Runtime on its CPU provider, with all graph optimizations and threads that spin, as by default."""

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        import onnxruntime

        from runtimes import onnx_graph

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_free_dimension_override_by_name(onnx_graph.BATCH, len(images))
        model = self.model(onnx_graph.build(network, weights))
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.feed = {IMAGE: channels_first(images)}

    def model(self, model: bytes) -> bytes:
        """The network that is run, made of that of real numbers."""
        return model

    def run(self) -> list[np.ndarray]:
        return self.session.run(None, self.feed)


class OpenVino(ChannelsFirst):
    """OpenVINO's CPU plugin in float32 with the hint for latency: one stream that uses all threads."""

    streams, precision = 1, "f32"

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        import openvino

        from runtimes import onnx_graph

        parts = [channels_first(part) for part in np.split(images, self.streams)]
        core = openvino.Core()
        model = self.model(core.read_model(onnx_graph.build(network, weights)))
        model.reshape(parts[0].shape)
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": self.precision,
                "PERFORMANCE_HINT": "LATENCY" if self.streams == 1 else "THROUGHPUT",
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": self.streams,
            },
        )
        self.requests = [compiled.create_infer_request() for _ in parts]
        self.numbers = range(len(network.outputs))
        for request, part in zip(self.requests, parts):
            request.set_input_tensor(openvino.Tensor(part))

    def model(self, model: Any) -> Any:
        """The network that is run, made of that of real numbers."""
        return model

    def run(self) -> list[np.ndarray]:
        if self.streams == 1:
            self.requests[0].infer()
        else:
            for request in self.requests:
                request.start_async()
            for request in self.requests:
                request.wait()
        return [request.get_output_tensor(number).data for request in self.requests for number in self.numbers]

    def logits(self, outputs: list[np.ndarray]) -> np.ndarray:
        if self.streams > 1:
            outputs = [np.concatenate(outputs)]
        return super().logits(outputs)


class OpenVinoStreams(OpenVino):
    """OpenVINO with the hint for throughput: the batch is split between two streams."""

    streams = 2

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        if threads < self.streams or len(images) % self.streams:
            raise Unsuitable("needs two threads and an even batch")
        super().__init__(network, weights, images, threads)


class LiteRT(Runtime):
    """LiteRT with its default delegate, XNNPACK, on a model converted from Keras."""

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        def convert(folder: Path) -> None:
            from runtimes import keras_graph

            model = keras_graph.build(network, weights, 1)
            (folder / "model.tflite").write_bytes(keras_graph.to_tflite(model))

        file = prepared.models(f"{network.name} tflite", convert) / "model.tflite"
        self.interpreter = Interpreter(model_content=file.read_bytes(), num_threads=threads)
        source = self.interpreter.get_input_details()[0]["index"]
        self.interpreter.resize_tensor_input(source, images.shape)
        self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(source, images)
        # The converter gives outputs in an order of its own; their shapes tell them apart.
        shapes = network.plan.shapes(network.size, network.size)
        details = self.interpreter.get_output_details()
        found = {tuple(detail["shape"][1:].tolist()): detail["index"] for detail in details}
        self.outputs = [found[shapes[name]] for name in network.outputs]

    def run(self) -> list[np.ndarray]:
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(index) for index in self.outputs]


class Ncnn(Runtime):
    """ncnn in float32, on files that are written from the plan. It has no batches: images go through one by one."""

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        if "predictions/kernel" not in weights:
            raise Unsuitable("only for classification")
        import ncnn

        from runtimes import ncnn_graph

        self.net = ncnn.Net()
        self.net.opt.num_threads = threads
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
            setattr(self.net.opt, f"use_{option}", False)
        with tempfile.TemporaryDirectory() as folder:
            layers, numbers = ncnn_graph.write(network, weights, Path(folder))
            self.net.load_param(str(layers))
            self.net.load_model(str(numbers))
        self.images = [ncnn.Mat(image).clone() for image in channels_first(images)]
        self.output = network.outputs[0]

    def run(self) -> list[np.ndarray]:
        return [np.stack([self.one(image) for image in self.images])]

    def one(self, image: Any) -> np.ndarray:
        extractor = self.net.create_extractor()
        extractor.input(IMAGE, image)
        return np.array(extractor.extract(self.output)[1])

    def logits(self, outputs: list[np.ndarray]) -> np.ndarray:
        return outputs[0].reshape(len(self.images), -1)


class Mnn(ChannelsFirst):
    """MNN in float32 ("high" precision), on what its converter makes of the ONNX graph."""

    # The converter's own front end would install a package that reports usage: this calls what is behind it, in a
    # process of its own, because it prints much.
    convert = "import sys, _tools; _tools.mnnconvert(sys.argv)"

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        import MNN
        import onnx  # noqa: F401 (the graph is written with it)

        from runtimes import onnx_graph

        with tempfile.TemporaryDirectory() as folder:
            graph, model = Path(folder) / "model.onnx", Path(folder) / "model.mnn"
            graph.write_bytes(onnx_graph.build(network, weights, len(images)))
            arguments = ["-f", "ONNX", "--modelFile", graph, "--MNNModel", model, "--bizCode", "npmnv2"]
            command = [sys.executable, "-c", self.convert, *arguments]
            subprocess.run(command, check=True, capture_output=True)
            self.interpreter = MNN.Interpreter(str(model))
        self.session = self.interpreter.createSession({"backend": "CPU", "precision": "high", "numThread": threads})
        self.images = channels_first(images)
        self.given = MNN.Tensor(
            self.images.shape, MNN.Halide_Type_Float, self.images, MNN.Tensor_DimensionType_Caffe
        )  # fmt: skip
        self.source = self.interpreter.getSessionInput(self.session)
        outputs = self.interpreter.getSessionOutputAll(self.session)
        self.found = [outputs[name] for name in network.outputs]
        self.outputs = [np.empty(output.getShape(), np.float32) for output in self.found]
        self.taken = [
            MNN.Tensor(output.shape, MNN.Halide_Type_Float, output, MNN.Tensor_DimensionType_Caffe)
            for output in self.outputs
        ]

    def run(self) -> list[np.ndarray]:
        self.source.copyFrom(self.given)  # a session may use its input's memory for other things
        self.interpreter.runSession(self.session)
        for found, taken in zip(self.found, self.taken):
            found.copyToHostTensor(taken)
        return [taken.getNumpyData() for taken in self.taken]


class TensorFlow(Runtime):
    """A Keras model inside tf.function."""

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        import tensorflow as tf

        from runtimes import keras_graph

        with suppress(RuntimeError):  # threads can be chosen only before TensorFlow's first operation
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        self.model = tf.function(keras_graph.build(network, weights, len(images)))
        self.images, self.flatten = tf.constant(images), tf.nest.flatten

    def run(self) -> list[np.ndarray]:
        return [output.numpy() for output in self.flatten(self.model(self.images, training=False))]


class Transformers(ChannelsFirst):
    """transformers' model in PyTorch's eager mode, the way its documentation runs it."""

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        if "predictions/kernel" not in weights:
            raise Unsuitable("only for classification")
        import torch
        from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

        torch.set_num_threads(threads)
        config = MobileNetV2Config(
            depth_multiplier=network.config.depth_multiplier,
            image_size=network.size,
            num_labels=network.config.num_labels,
        )
        self.model = MobileNetV2ForImageClassification(config).eval()
        # Its layers stand in the same order as ours.
        layers = [m for m in self.model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
        norms = [m for m in self.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        names = [key.rpartition("/")[0] for key in weights if key.endswith("/kernel")]
        with torch.no_grad():
            for name, layer in zip(names, layers, strict=True):
                kernel = torch.from_numpy(weights[f"{name}/kernel"])
                depthwise = kernel.ndim == 4 and layer.groups > 1
                axes = (1, 0) if kernel.ndim == 2 else (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
                layer.weight.copy_(kernel.permute(axes))
            # A norm that only adds: mean 0, variance 1.
            for name, norm in zip(names, norms):
                norm.weight.fill_((1 + norm.eps) ** 0.5)
                norm.bias.copy_(torch.from_numpy(weights[f"{name}/bias"]))
            self.model.classifier.bias.copy_(torch.from_numpy(weights["predictions/bias"]))
        self.images = torch.from_numpy(channels_first(images))
        self.inference_mode = torch.inference_mode

    def run(self) -> list[np.ndarray]:
        with self.inference_mode():
            return [self.model(self.images).logits.numpy()]


OURS, OURS_ON_NUMPY, OURS_IN_FLOAT = "npmnv2", "npmnv2 on NumPy", "npmnv2, float32"
# The runtimes that a user would otherwise choose for speed.
FAST = ("onnxruntime", "onnxruntime, signed", "openvino", "openvino, 2 streams", "litert", "ncnn", "mnn")
ON_REQUEST = ("ncnn", "mnn")  # only where they are named
# In this order they are set up: TensorFlow first, because its first operation fixes its threads.
RUNTIMES: dict[str, type[Runtime]] = {
    "tensorflow": TensorFlow,
    "litert": LiteRT,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "openvino, 2 streams": OpenVinoStreams,
    "transformers": Transformers,
    "ncnn": Ncnn,
    "mnn": Mnn,
    OURS_ON_NUMPY: OursOnNumpy,
    OURS: Ours,
}
PACKAGES = (
    "npmnv2", "numpy", "numba", "llvmlite", "onnxruntime", "openvino", "ai-edge-litert", "tensorflow-cpu", "tensorflow",
    "torch", "transformers", "nncf", "ncnn", "MNN",
)  # fmt: skip
