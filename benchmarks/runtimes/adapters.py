"""One small class per runtime: how it is set up at its best, and how it is called.

An adapter takes the network, its folded weights and the images, (batch, height, width, channels) float32, and
leaves the layout, the threads and everything else to what its runtime likes best. ``run`` does one inference of the
whole batch and returns the output as the runtime gives it; ``logits`` brings that to (batch, …, classes).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from network import Network

Weights = dict[str, np.ndarray]


def _nchw(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _classes_last(output: np.ndarray) -> np.ndarray:
    return output if output.ndim == 2 else output.transpose(0, 2, 3, 1)


class OnnxRuntime:
    """ONNX Runtime's CPU provider, all graph optimizations, threads that spin as by default."""

    package = "onnxruntime"

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        import onnxruntime

        from runtimes import onnx_graph

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        model = onnx_graph.build(network, weights, len(images))
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.feed = {"input": _nchw(images)}

    def run(self) -> np.ndarray:
        return self.session.run(None, self.feed)[0]

    logits = staticmethod(_classes_last)


class OpenVino:
    """OpenVINO's CPU plugin in float32, latency hint: one stream that uses all threads."""

    package = "openvino"
    streams = 1

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        import openvino

        from runtimes import onnx_graph

        core = openvino.Core()
        split = np.split(images, self.streams)
        model = core.read_model(onnx_graph.build(network, weights, len(split[0])))
        config = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY" if self.streams == 1 else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": self.streams,
        }
        compiled = core.compile_model(model, "CPU", config)
        self.requests = [compiled.create_infer_request() for _ in split]
        for request, part in zip(self.requests, split):
            request.set_input_tensor(openvino.Tensor(_nchw(part)))

    def run(self) -> np.ndarray:
        if len(self.requests) == 1:
            self.requests[0].infer()
            return self.requests[0].get_output_tensor().data
        for request in self.requests:
            request.start_async()
        for request in self.requests:
            request.wait()
        return np.concatenate([request.get_output_tensor().data for request in self.requests])

    logits = staticmethod(_classes_last)


class OpenVinoStreams(OpenVino):
    """OpenVINO with the batch split between two streams."""

    streams = 2


class LiteRT:
    """LiteRT with its default XNNPACK delegate."""

    package = "ai-edge-litert"

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        from runtimes import keras_graph

        model = keras_graph.to_tflite(keras_graph.build(network, weights, len(images)))
        self.interpreter = Interpreter(model_content=model, num_threads=threads)
        self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], images)
        self.output = self.interpreter.get_output_details()[0]["index"]

    def run(self) -> np.ndarray:
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output)

    @staticmethod
    def logits(output: np.ndarray) -> np.ndarray:
        return output


class TensorFlow:
    """Keras model inside tf.function."""

    package = "tensorflow"

    def __init__(self, network: Network, weights: Weights, images: np.ndarray, threads: int) -> None:
        import tensorflow as tf

        from runtimes import keras_graph

        with suppress(RuntimeError):  # threads can be set only before TensorFlow's first operation
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        self.model = tf.function(keras_graph.build(network, weights, len(images)))
        self.images = tf.constant(images)

    def run(self) -> Any:
        return self.model(self.images, training=False).numpy()

    @staticmethod
    def logits(output: np.ndarray) -> np.ndarray:
        return output


# In this order they are set up: TensorFlow first, because its threads are fixed by its first operation.
PEERS: dict[str, type] = {
    "tensorflow": TensorFlow,
    "litert": LiteRT,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "openvino-streams": OpenVinoStreams,
}
