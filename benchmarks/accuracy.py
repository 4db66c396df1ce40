"""Measure how far npmnv2 and other runtimes are from double precision: same weights, same photos, layer by layer.

    python benchmarks/accuracy.py [--json FILE]

The reference is NumPy in float64 on the same float32 weights, batch norms folded. Logits are those of each runtime at
its best (`runtimes/adapters.py`); inner values are seen through npmnv2's own comparison (`npmnv2.lab.adapters`), for
which a runtime may fuse less. Errors are root mean squares as shares of the value's own, in units of u = 2⁻²⁴.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np
from network import Network, Weights, network
from runtimes.adapters import OURS, OURS_ON_NUMPY, PACKAGES, RUNTIMES, Unsuitable

from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.images.processor import MobileNetV2ImageProcessor
from npmnv2.lab.adapters.keras import Keras
from npmnv2.lab.adapters.litert import LiteRT
from npmnv2.lab.adapters.onnx import OnnxRuntime
from npmnv2.lab.adapters.pytorch import PyTorch
from npmnv2.lab.alignment import align
from npmnv2.lab.error_model import UNIT, error_bounds
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.models.classification import MobileNetV2ForImageClassification
from npmnv2.network.architecture import CLASSIFIER, POOL
from npmnv2.network.config import MobileNetV2Config
from npmnv2.weights.checkpoint import fold_batch_norms

MODEL = "1.0_224"
# Two ways to run OpenVINO differ in speed only.
COMPARED = [name for name in RUNTIMES if "streams" not in name]
# A network without clips, on a photo of an odd shape: where one long chain of additions shows most.
UNCLIPPED = {"hidden_act": "hardswish"}
UNCLIPPED_SIZE = (662, 263)


def photos(size: int) -> np.ndarray:
    """The demo's cat, prepared in four ways."""
    with resources.as_file(resources.files("npmnv2") / "data" / "cat.jpg") as cat:
        made = [MobileNetV2ImageProcessor.preset(name, size).to_array([cat]) for name in ("hf", "slim", "keras")]
    return np.concatenate([*made, made[0][:, :, ::-1]]).astype(np.float32)


def share(error: np.ndarray, of: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(error, dtype=np.float64)) / np.mean(np.square(of, dtype=np.float64))))


def double(net: Network, weights: Weights, images: np.ndarray) -> dict[str, np.ndarray]:
    """Every value in float64, of the same float32 weights."""
    folded = {name: value.astype(np.float64) for name, value in fold_batch_norms(net.plan, weights).items()}
    return NumpyExecutable(net.plan, folded)(images.astype(np.float64), net.plan.endpoints)


def logits_errors(net: Network, weights: Weights, images: np.ndarray, exact: np.ndarray) -> dict[str, dict[str, float]]:
    """Error of the logits of every runtime that is installed, all photos in one batch."""
    errors = {}
    for name in COMPARED:
        try:
            runtime = RUNTIMES[name](net, weights, images, 1)
            logits = np.array(runtime.logits(runtime.run()), np.float64)
        except (ImportError, Unsuitable) as reason:
            print(f"{name} is left out: {reason}", file=sys.stderr)
            continue
        error = logits - exact
        errors[name] = {
            "rms": round(share(error, exact) / UNIT, 2),
            "largest": round(float(np.abs(error).max() / np.abs(exact).max()) / UNIT, 2),
        }
    return errors


def layer_errors(
    net: Network, weights: Weights, image: np.ndarray, exact: dict[str, np.ndarray]
) -> dict[str, list[float]]:
    """Error of every part of the network, by runtime, for one image."""
    names = [part.name for part in net.plan.parts()]
    traces = {name: RUNTIMES[name](net, weights, image, 1).executable(image, names) for name in (OURS, OURS_ON_NUMPY)}
    for name, adapter in foreign(net, weights, image).items():
        traces[name] = align(adapter.taps(image), net.plan, exact)[0]
    return {
        runtime: [round(share(trace[n] - exact[n], exact[n]) / UNIT, 2) if n in trace else None for n in names]
        for runtime, trace in traces.items()
    }


def foreign(net: Network, weights: Weights, image: np.ndarray) -> dict[str, Any]:
    """The adapters of the runtimes whose inner values can be seen."""
    from runtimes import keras_graph, onnx_graph

    folder = Path(tempfile.mkdtemp())
    keras = keras_graph.build(net, weights, 1)
    (folder / "m.tflite").write_bytes(keras_graph.to_tflite(keras))
    (folder / "m.onnx").write_bytes(onnx_graph.build(net, weights, 1))
    return {
        "tensorflow": Keras(keras),
        "litert": LiteRT(folder / "m.tflite"),
        "onnxruntime": OnnxRuntime(folder / "m.onnx"),
        "transformers": PyTorch(RUNTIMES["transformers"](net, weights, image, 1).model),
    }


def classifier_errors(net: Network, weights: Weights, images: np.ndarray) -> dict[str, float]:
    """What the classifier alone rounds, on the features that it is given."""
    kernel, bias = (weights[f"{CLASSIFIER}/{name}"].astype(np.float64) for name in ("kernel", "bias"))
    errors = {}
    for name in (OURS, OURS_ON_NUMPY):
        values = RUNTIMES[name](net, weights, images, 1).executable(images, [POOL, CLASSIFIER])
        exact = values[POOL].astype(np.float64) @ kernel + bias
        errors[name] = round(share(values[CLASSIFIER] - exact, exact) / UNIT, 2)
    return errors


def chain_errors(net: Network, weights: Weights, features: np.ndarray) -> dict[str, float]:
    """The same classifier by chains of fused multiply-adds, one a block of channels, that are added at the end."""
    kernel, bias = (weights[f"{CLASSIFIER}/{name}"] for name in ("kernel", "bias"))
    x = features.astype(np.float32).astype(np.float64)
    exact = x @ kernel.astype(np.float64) + bias
    errors = {}
    for blocks in (1, 2, 4, 8, 16):
        pieces = zip(np.array_split(x, blocks), np.array_split(kernel, blocks))
        sums = [chain(*piece, np.zeros_like(bias) if blocks > 1 else bias) for piece in pieces]
        total = sums[0] if blocks == 1 else sum(sums, bias)
        errors[str(blocks)] = round(share(total - exact, exact) / UNIT, 2)
    last = chain(x, kernel, np.zeros_like(bias)) + bias
    return {**errors, "bias last": round(share(last - exact, exact) / UNIT, 2)}


def chain(x: np.ndarray, kernel: np.ndarray, start: np.ndarray) -> np.ndarray:
    """A sum of products in ascending order, each rounded once to float32."""
    total = start.astype(np.float32)
    for factor, row in zip(x, kernel.astype(np.float64)):
        total = (total + factor * row).astype(np.float32)
    return total


def unclipped_errors() -> dict[str, dict[str, float]]:
    """Both backends on a network without clips."""
    config = MobileNetV2Config(num_labels=1001, **UNCLIPPED)
    weights = unit_gain_weights(MobileNetV2ForImageClassification.build(config))
    x = np.random.default_rng(1).uniform(-1, 1, (1, *UNCLIPPED_SIZE, 3)).astype(np.float32)
    exact = MobileNetV2ForImageClassification(config, weights, dtype="float64").run(x, [CLASSIFIER])[CLASSIFIER]
    errors = {}
    for name, backend in ((OURS_ON_NUMPY, "numpy"), (OURS, "compiled")):
        model = MobileNetV2ForImageClassification(config, weights, backend=backend, n_threads=1)
        error = model.run(x, [CLASSIFIER])[CLASSIFIER] - exact
        errors[name] = {
            "rms": round(share(error, exact) / UNIT, 2),
            "largest": round(float(np.abs(error).max() / np.abs(exact).max()) / UNIT, 2),
        }
    return errors


def measure() -> dict[str, Any]:
    net = network("classify", MODEL)
    weights, images = net.random_weights(), photos(net.size)
    exact = double(net, weights, images)
    first = {name: value[:1] for name, value in exact.items()}
    model = MobileNetV2ForImageClassification(net.config, weights, dtype="float64")
    bounds = error_bounds(model, images[:1])
    return {
        "model": MODEL,
        "photos": len(images),
        "date": datetime.date.today().isoformat(),
        "machine": harness.machine(),
        "versions": harness.versions(PACKAGES),
        "logits": logits_errors(net, weights, images, exact[CLASSIFIER]),
        "hardswish 662×263": unclipped_errors(),
        "classifier alone": classifier_errors(net, weights, images),
        "chains": chain_errors(net, weights, exact[POOL][0]),
        "layers": [bound.name for bound in bounds],
        "errors": layer_errors(net, weights, images[:1], first),
        "expected": [round(bound.expected / UNIT, 2) for bound in bounds],
        "worst": [round(bound.worst / UNIT, 1) for bound in bounds],
    }


def report(measured: dict[str, Any]) -> str:
    rows = [[n, f"{e['rms']:.1f}", f"{e['largest']:.1f}"] for n, e in measured["logits"].items()]
    return harness.table(["runtime", "rms, u", "largest, u"], sorted(rows, key=lambda row: float(row[1])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    options = parser.parse_args()
    measured = measure()
    print(report(measured))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
