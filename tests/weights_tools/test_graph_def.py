"""Frozen graphs that TensorFlow writes, read without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorflow_graphs import tensorflow_graph
from weight_files import (
    assert_same_weights,
    folded,
    frozen_graph,
    random_checkpoint,
)

from npmnv2 import MobileNetV2ForImageClassification, WeightsError
from npmnv2.weights_tools import detect_format, read

tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1


def test_frozen_graph(written: Path, checkpoint) -> None:
    found = read(written / "frozen.pb")
    assert detect_format(written / "frozen.pb") == "graph-def"
    assert (found.config.image_size, found.config.output_stride, found.config.layer_norm_eps) == (96, 32, 0.001)
    assert_same_weights(found.weights, checkpoint.weights)


@pytest.mark.parametrize("fold", [False, True])
def test_our_own_graph_writer_is_read_by_tensorflow(tmp_path: Path, fold) -> None:
    checkpoint = random_checkpoint()
    checkpoint = folded(checkpoint) if fold else checkpoint
    (tmp_path / "graph.pb").write_bytes(frozen_graph(checkpoint))
    judge = tf1.GraphDef.FromString((tmp_path / "graph.pb").read_bytes())
    kernel = next(node for node in judge.node if node.name == "MobilenetV2/Conv/weights")
    assert np.array_equal(tf.make_ndarray(kernel.attr["value"].tensor), checkpoint.weights["Conv1/kernel"])
    assert_same_weights(read(tmp_path / "graph.pb").weights, checkpoint.weights)


@pytest.mark.parametrize("fields", [{}, {"decoder": True}], ids=str)
def test_frozen_deeplab(tmp_path: Path, fields) -> None:
    checkpoint = random_checkpoint("segmentation", output_stride=8, **fields)
    (tmp_path / "graph.pb").write_bytes(frozen_graph(checkpoint))
    found = read(tmp_path / "graph.pb")
    assert (found.task, found.config.output_stride) == ("segmentation", 8)
    assert_same_weights(found.weights, checkpoint.weights)


@pytest.mark.parametrize(("pads", "tf_padding"), [((1, 1), False), ((0, 1), True)])
def test_frozen_graph_with_explicit_padding(tmp_path: Path, pads, tf_padding) -> None:
    graph = tf1.GraphDef.FromString(frozen_graph(random_checkpoint()))
    stem = next(node for node in graph.node if node.name == "MobilenetV2/Conv/Conv2D")
    stem.input[0] = "Pad"
    graph.node.add(name="Pad", op="Pad", input=["input", "paddings"])
    paddings = graph.node.add(name="paddings", op="Const")
    paddings.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.array([(0, 0), pads, pads, (0, 0)], np.int32)))
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    assert read(tmp_path / "graph.pb").config.tf_padding is tf_padding


def test_frozen_graph_with_fake_quantization_without_ranges_is_refused(tmp_path: Path) -> None:
    graph = tf1.GraphDef.FromString(frozen_graph(random_checkpoint()))
    for node in graph.node:
        if node.name == "MobilenetV2/Conv/weights/read":
            node.op = "FakeQuantWithMinMaxVars"
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(WeightsError, match=r"lacks the ranges of fake quantization"):
        read(tmp_path / "graph.pb")


def test_frozen_graph_with_equal_numbers_stated_once(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    graph = tf1.GraphDef.FromString(frozen_graph(checkpoint))
    for node in graph.node:
        if node.name.endswith("Conv/BatchNorm/beta"):
            tensor = node.attr["value"].tensor
            tensor.tensor_content = b""
            tensor.float_val.extend([1.5, 0.25])
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    beta = read(tmp_path / "graph.pb").weights["bn_Conv1/beta"]
    assert beta.tolist() == [1.5, 0.25, *[0.25] * (len(beta) - 2)]


def test_unfrozen_graph_says_where_its_weights_are(written: Path, tmp_path: Path) -> None:
    graph = tf.Graph()
    with graph.as_default():
        tf1.get_variable("MobilenetV2/Conv/weights", shape=(3, 3, 3, 8), use_resource=False)
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(WeightsError, match="freeze it or read the checkpoint"):
        read(tmp_path / "graph.pb")


def test_logits_on_a_photo_are_tensorflows(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "weights" / "classification" / "mobilenet_v2_1.0_224_slim_variables.npz"
    original = read(source)
    photo = Image.open(shared_data / "photos" / "cat.bmp").convert("RGB").resize((224, 224))
    image = (np.asarray(photo, np.float32) / 127.5 - 1)[np.newaxis]
    graph, placeholder, logits = tensorflow_graph(original, 224, frozen=False)
    with graph.as_default(), tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
        tf1.saved_model.simple_save(session, str(tmp_path / "saved"), {"image": placeholder}, {"logits": logits})
        expected = session.run(logits, {placeholder: image})
    frozen, _, _ = tensorflow_graph(original, 224, frozen=True)
    (tmp_path / "frozen.pb").write_bytes(frozen.as_graph_def().SerializeToString())
    assert expected.argmax() == 286  # Egyptian cat
    for path in (source, tmp_path / "model.ckpt", tmp_path / "saved", tmp_path / "frozen.pb"):
        model = MobileNetV2ForImageClassification.from_checkpoint(read(path), backend="numpy")
        found = model(image.transpose(0, 3, 1, 2)).logits
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max(), path
