"""How long a new process needs to its first prediction, and how much has to be installed for it.

    python benchmarks/cold_start.py [--rounds 3] [--json FILE]

Every runtime loads the same network, MobileNetV2 1.0 224, from a file in its own format, and classifies one image that
is already an array. The clock runs from before the process is started to after the first result. Numbers for "npmnv2"
are those of the native kernels: build them first (``python tools/build_native.py``).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np

# What a user would write; {model} is the file, x the image.
START = "import sys, time, numpy as np; x = np.zeros((1, {size}, {size}, 3), np.float32)\n"
SCRIPTS = {
    "npmnv2": 'import npmnv2; model = npmnv2.load({model!r}); model(x, data_format="channels_last").logits',
    "npmnv2 with Numba": (
        'import npmnv2; model = npmnv2.load({model!r}, backend="numba"); model(x, data_format="channels_last").logits'
    ),
    "npmnv2 on NumPy": (
        'import npmnv2; model = npmnv2.load({model!r}, backend="numpy"); model(x, data_format="channels_last").logits'
    ),
    "onnxruntime": (
        "import onnxruntime; session = onnxruntime.InferenceSession({model!r}); "
        'session.run(None, {{"image": x.reshape(1, 3, {size}, {size})}})'
    ),
    "openvino": (
        'import openvino; model = openvino.Core().compile_model({model!r}, "CPU"); '
        "model(x.reshape(1, 3, {size}, {size}))"
    ),
    "litert": (
        "from ai_edge_litert.interpreter import Interpreter; i = Interpreter({model!r}); i.allocate_tensors(); "
        'i.set_tensor(i.get_input_details()[0]["index"], x); i.invoke()'
    ),
    "tensorflow": "import tensorflow as tf; model = tf.keras.models.load_model({model!r}); model(x, training=False)",
    "transformers": (
        "import torch; from transformers import MobileNetV2ForImageClassification as Model; "
        "model = Model.from_pretrained({model!r}).eval()\n"
        "with torch.inference_mode(): model(torch.from_numpy(x.reshape(1, 3, {size}, {size})))"
    ),
}
STOP = "\nprint(time.time())"

# What pip has to install, dependencies included.
INSTALLED = {
    "npmnv2": ("npmnv2",),
    "npmnv2 with Numba": ("npmnv2", "numba"),
    "npmnv2 on NumPy": ("npmnv2",),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "litert": ("ai-edge-litert",),
    "tensorflow": ("tensorflow-cpu", "tensorflow"),
    "transformers": ("transformers", "torch"),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        models = write_models(Path(folder))
        results = measure(models, Path(folder), options.rounds)
    rows = [
        [name, f"{r['seconds']:.2f}", f"{r['cold_seconds']:.1f}" if "cold_seconds" in r else "", f"{r['mb']:.0f}"]
        for name, r in results.items()
    ]
    print(harness.table(["runtime", "first prediction, s", "without compiled kernels, s", "installed, MB"], rows))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        about = {"machine": harness.machine(), "versions": harness.versions(("npmnv2", "numba")), "results": results}
        options.json.write_text(json.dumps(about, indent=1) + "\n")


def write_models(folder: Path, task: str = "classify", model_name: str = "1.0_224") -> dict[str, str]:
    """Write the network in every format whose writer is installed; return the file of each runtime."""
    from network import network
    from npmnv2.kernels.host.engine import library_engine
    from runtimes.adapters import Transformers

    from npmnv2 import MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation

    net = network(task, model_name)
    weights = net.random_weights()
    ours = folder / "npmnv2"
    models_of = {"classify": MobileNetV2ForImageClassification, "segment": MobileNetV2ForSemanticSegmentation}
    models_of[task](net.config, weights).save_pretrained(ours)
    if library_engine("", "float") is None:
        raise SystemExit("there are no native kernels here that fit: python tools/build_native.py")
    models = {name: ours for name in SCRIPTS if name.startswith("npmnv2")}

    def onnx() -> None:
        from runtimes import onnx_graph

        models["onnxruntime"] = models["openvino"] = folder / "model.onnx"
        models["onnxruntime"].write_bytes(onnx_graph.build(net, weights, 1))

    def keras() -> None:
        from runtimes import keras_graph

        model = keras_graph.build(net, weights, 1)
        models["tensorflow"], models["litert"] = folder / "model.keras", folder / "model.tflite"
        model.save(models["tensorflow"])
        models["litert"].write_bytes(keras_graph.to_tflite(model))

    def transformers() -> None:
        models["transformers"] = folder / "transformers"
        Transformers(net, weights, np.zeros((1, 224, 224, 3), np.float32), 1).model.save_pretrained(
            models["transformers"]
        )

    for write in (onnx, keras, transformers) if task == "classify" else (onnx, keras):
        try:
            write()
        except ImportError as reason:
            print(f"left out: {reason}", file=sys.stderr)
    return {name: str(path) for name, path in models.items()}


def measure(models: dict[str, str], folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Time every runtime once a round; Numba's kernels are compiled in the first round, and found afterwards."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "kernels"), "HF_HUB_OFFLINE": "1"}
    cold = first_prediction("npmnv2 with Numba", models["npmnv2 with Numba"], environment)
    for name in models:  # reads all files into memory once
        first_prediction(name, models[name], environment)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            seconds[name].append(first_prediction(name, model, environment))
    results: dict[str, dict[str, Any]] = {
        name: {"seconds": round(statistics.median(s), 3), "mb": round(installed_bytes(INSTALLED[name]) / 1e6, 1)}
        for name, s in seconds.items()
    }
    results["npmnv2 with Numba"]["cold_seconds"] = round(cold, 2)
    return results


def first_prediction(name: str, model: str, environment: dict[str, str]) -> float:
    """Return the seconds from the start of a new process to its first prediction."""
    script = (START + SCRIPTS[name]).format(model=model, size=224) + STOP
    start = time.time()
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return float(done.stdout.splitlines()[-1]) - start


def installed_bytes(names: tuple[str, ...]) -> int:
    """Return the size of all files of these distributions and of everything that they need."""
    return sum(size_of(distribution) for distribution in with_requirements(names).values())


def with_requirements(names: tuple[str, ...]) -> dict[str, importlib.metadata.Distribution]:
    """Return the distributions of that name that are installed, and all that they require without extras, by name."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, importlib.metadata.Distribution] = {}
    open_names = list(names)
    while open_names:
        name = canonicalize_name(open_names.pop())
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        requirements = map(Requirement, found[name].requires or ())
        open_names += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def size_of(distribution: importlib.metadata.Distribution) -> int:
    """Bytes on disk; of a package that is installed in place, those of its source."""
    if distribution.metadata["Name"] == "npmnv2":
        import npmnv2
        from npmnv2 import kernels, weights_tools

        folders = {Path(package.__file__).parent for package in (npmnv2, kernels, weights_tools)}
        return sum(path.stat().st_size for folder in folders for path in folder.rglob("*.*") if path.is_file())
    paths = (Path(distribution.locate_file(file)) for file in distribution.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


if __name__ == "__main__":
    main()
