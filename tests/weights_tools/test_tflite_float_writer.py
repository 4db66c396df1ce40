"""Networks of real numbers written as TFLite: LiteRT computes the same, and the reader finds the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_networks import NETWORKS, assert_close, checkpoint_of, images_for, values_of
from npmnv2.weights_tools.tflite_writer import tflite_bytes, write
from weight_files import assert_same_weights, folded

from npmnv2 import WeightsError
from npmnv2.weights_tools import read


def run(data: bytes, x: np.ndarray) -> dict[str, np.ndarray]:
    """Results by name."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(model_content=data)
    (first,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(first["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(first["index"], x)
    interpreter.invoke()
    return {output["name"]: interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()}


@pytest.mark.parametrize("fields", NETWORKS, ids=str)
def test_litert_computes_the_same(fields) -> None:
    checkpoint = checkpoint_of(**fields)
    x = images_for(checkpoint)
    found = run(tflite_bytes(checkpoint), x)
    expected = values_of(checkpoint, x, list(found))
    assert len(found) == (2 if checkpoint.task == "detection" else 1)
    for name, value in expected.items():
        assert_close(found[name], value)


def test_every_value() -> None:
    checkpoint = checkpoint_of("segmentation", output_stride=16, decoder=True, tf_padding=False)
    x = images_for(checkpoint, batch=1)
    found = run(tflite_bytes(checkpoint, every_value=True), x)
    assert len(found) > 60
    for name, value in values_of(checkpoint, x, list(found)).items():
        assert_close(found[name], value)


@pytest.mark.parametrize("fields", NETWORKS, ids=str)
def test_a_round_trip_loses_nothing_but_the_batch_norms(tmp_path: Path, fields) -> None:
    checkpoint = checkpoint_of(**fields)
    write(checkpoint, tmp_path / "model.tflite")
    found = read(tmp_path / "model.tflite")
    assert_same_weights(found.weights, folded(checkpoint).weights)
    assert list(found.weights) == list(folded(checkpoint).weights)
    assert (found.task, found.labels, found.preprocessing) == (
        checkpoint.task,
        checkpoint.labels,
        checkpoint.preprocessing,
    )
    assert found.config.replace(extra={}) == checkpoint.config
    assert found.source["format"] == "test"
    write(found, tmp_path / "again.tflite")
    assert_same_weights(read(tmp_path / "again.tflite").weights, found.weights)


@pytest.mark.parametrize("activation", ["gelu", "hardswish", np.tanh])
def test_other_activations_are_refused_with_the_layer(activation) -> None:
    checkpoint = checkpoint_of()
    with pytest.raises(WeightsError, match=r"Conv1 has .*, which a file for TFLite cannot hold: it takes linear, relu"):
        tflite_bytes(replace(checkpoint, config=checkpoint.config.replace(hidden_act=activation)))


def test_a_file_that_contradicts_its_own_graph_is_refused(tmp_path: Path) -> None:
    data = tflite_bytes(checkpoint_of(hidden_act="relu6"))
    (tmp_path / "model.tflite").write_bytes(data.replace(b'"hidden_act": "relu6"', b'"hidden_act": "relu" '))
    with pytest.raises(WeightsError, match="its activation is relu6, and its metadata states 'relu'"):
        read(tmp_path / "model.tflite")


@pytest.mark.parametrize(
    "name",
    [
        "classification/mobilenet_v2_1.0_224_slim_variables.npz",
        "segmentation/deeplabv3.tflite",
        "detection/coco_ssdlite_mobilenet_v2_tfjs",
    ],
)
def test_published_networks(shared_data: Path, name) -> None:
    checkpoint = read(shared_data / "weights" / name)
    x = images_for(checkpoint, batch=1)
    found = run(tflite_bytes(checkpoint), x)
    for name, value in values_of(checkpoint, x, list(found)).items():
        assert_close(found[name], value)
