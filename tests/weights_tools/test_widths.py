"""Multipliers at which makers differ, through every format: the source of a file decides whose rule it follows.

`tests/weights/test_infer.py` goes through all hundredths of every maker; here each format passes its maker on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from weight_files import (
    folded,
    frozen_graph,
    random_checkpoint,
    randomize,
    save_torchvision,
    slim_variables,
    tflite_model,
    write_bundle,
)

from npmnv2 import MobileNetV2ForImageClassification
from npmnv2.network.architecture import backbone
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights_tools import read, write_keras, write_native, write_npz, write_transformers

# The first block adds its input at the first three, by the rules of TF-slim and Keras; widths differ at the others.
MULTIPLIERS = [0.05, 0.16, 0.25, 0.28, 0.56, 1.12]


def _bundle(checkpoint: Checkpoint, path: Path) -> None:
    write_bundle(path, slim_variables(checkpoint))


def _keras_bundle(checkpoint: Checkpoint, path: Path) -> None:
    write_bundle(path, checkpoint.weights)


def _graph(checkpoint: Checkpoint, path: Path) -> None:
    path.write_bytes(frozen_graph(checkpoint))


def _tflite(checkpoint: Checkpoint, path: Path) -> None:
    path.write_bytes(tflite_model(folded(checkpoint)))


def _bare_npz(checkpoint: Checkpoint, path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, **slim_variables(checkpoint))


WAYS = {
    "checkpoint of TF-slim": ("slim", _bundle),
    "checkpoint of Keras": ("keras", _keras_bundle),
    "frozen graph": ("slim", _graph),
    "TFLite of TF-slim": ("slim", _tflite),
    "TFLite of Keras": ("keras", _tflite),
    "TFLite of transformers": ("transformers", _tflite),
    "npz": ("slim", _bare_npz),
    "npz with its configuration": ("transformers", write_npz),
    "torchvision": ("slim", lambda checkpoint, path: save_torchvision(path, checkpoint)),
    "transformers": ("transformers", write_transformers),
    "native": ("transformers", write_native),
    "native of Keras": ("keras", write_native),
    "keras": ("keras", write_keras),
}


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
@pytest.mark.parametrize("way", WAYS)
def test_a_format_keeps_its_makers_network(tmp_path: Path, way: str, multiplier: float) -> None:
    maker, write = WAYS[way]
    checkpoint = random_checkpoint(
        depth_multiplier=multiplier, width_rule=maker, expand_ratio=6, finegrained_output=True
    )
    write(checkpoint, tmp_path / "file")
    found = read(tmp_path / "file").config
    same = {"layer_norm_eps": found.layer_norm_eps, "tf_padding": found.tf_padding}
    assert backbone(found) == backbone(checkpoint.config.replace(**same))


@pytest.mark.parametrize("multiplier", [0.05, 0.16, 0.28, 1.1])
def test_logits_of_transformers(tmp_path: Path, multiplier: float) -> None:
    torch = pytest.importorskip("torch")
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    network = hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(depth_multiplier=multiplier)).eval()
    randomize(network)
    network.save_pretrained(tmp_path)
    image = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).logits.numpy()
    model = MobileNetV2ForImageClassification.from_pretrained(tmp_path, backend="numpy")
    assert np.abs(model(image).logits - expected).max() <= 1e-4 * np.abs(expected).max()
