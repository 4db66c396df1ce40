"""Checkpoints that TensorFlow writes, read without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detector_graphs import scores, suppression
from npmnv2.weights_tools.tf_checkpoint import Bundle
from weight_files import (
    assert_same_weights,
    field,
    random_checkpoint,
    slim_variables,
    write_bundle,
)

from npmnv2 import WeightsError
from npmnv2.network.detection import NonMaxSuppression, SSDConfig
from npmnv2.weights_tools import detect_format, read

tf = pytest.importorskip("tensorflow")


def test_checkpoint(written: Path, checkpoint) -> None:
    found = read(written / "model.ckpt")
    assert found.task == "classification"
    assert found.config.depth_multiplier == 0.35
    assert found.config.classes == 5
    assert found.source["ema"] is False
    assert found.preprocessing["preset"] == "slim"
    assert_same_weights(found.weights, checkpoint.weights)


@pytest.mark.parametrize("name", ["model.ckpt", "model.ckpt.index", "model.ckpt.data-00000-of-00001", "."])
def test_every_name_of_a_checkpoint_means_it(written: Path, name, checkpoint) -> None:
    assert detect_format(written / name) == "tf-checkpoint"
    assert_same_weights(read(written / name).weights, checkpoint.weights)


def test_every_variable_is_what_tensorflow_reads(written: Path) -> None:
    judge = tf.train.load_checkpoint(str(written / "model.ckpt"))
    shapes = judge.get_variable_to_shape_map()
    with Bundle(written / "model.ckpt") as bundle:
        assert set(bundle.entries) == set(shapes)
        for name in shapes:
            assert np.array_equal(bundle.value(name), judge.get_tensor(name)), name


def test_our_own_bundle_writer_is_read_by_tensorflow(tmp_path: Path, checkpoint) -> None:
    # The tests of damaged files start from files of this writer: they have to be true ones.
    variables = slim_variables(checkpoint) | {"global_step": np.array(7, np.int64)}
    prefix = write_bundle(tmp_path / "model.ckpt", variables, shards=3)
    judge = tf.train.load_checkpoint(str(prefix))
    assert set(judge.get_variable_to_shape_map()) == set(variables)
    assert all(np.array_equal(judge.get_tensor(name), value) for name, value in variables.items())


def test_sharded_checkpoint_of_tensorflow(tmp_path: Path, checkpoint) -> None:
    variables = list(slim_variables(checkpoint).items())
    parts = []
    for number, part in enumerate((variables[::2], variables[1::2])):
        parts.append(str(tmp_path / f"part{number}"))
        names, values = zip(*part)
        tf.raw_ops.SaveV2(prefix=parts[-1], tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(tmp_path / "model.ckpt"))
    assert len(list(tmp_path.glob("*.data-*-of-00002"))) == 2
    assert_same_weights(read(tmp_path / "model.ckpt").weights, checkpoint.weights)
    (tmp_path / "model.ckpt.data-00001-of-00002").unlink()
    with pytest.raises(WeightsError, match="data-00001-of-00002: is missing"):
        read(tmp_path / "model.ckpt")


def test_compressed_index_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "m.ckpt", slim_variables(random_checkpoint()), kind=1)
    with pytest.raises(WeightsError, match="compressed"):
        read(tmp_path / "m.ckpt")


def test_published_detectors_are_read_whole(shared_data: Path, tmp_path: Path) -> None:
    listed = shared_data.parent / "facts" / "dumps" / "ssdlite_mobilenet_v2_coco_2018_05_09.vars.txt"
    variables = {}
    for line in listed.read_text().splitlines():
        name, _, rest = line.partition(" [")
        shape = tuple(int(n) for n in rest.partition("]")[0].split(", ") if n)
        variables[name] = np.full(shape, len(name), np.int64 if "int64" in rest else np.float32)
    write_bundle(tmp_path / "model.ckpt", variables)
    found = read(tmp_path / "model.ckpt")
    assert (found.task, found.config.depth_multiplier) == ("detection", 1.0)
    assert len(found.weights) == 404
    assert (found.config.classes, found.preprocessing) == (91, {"preset": "ssd", "size": 300})
    assert found.weights["BoxPredictor_5_ClassPredictor/kernel"].shape == (1, 1, 128, 546)
    del variables["BoxPredictor_3/ClassPredictor/biases"], variables["FeatureExtractor/MobilenetV2/Conv/weights"]
    write_bundle(tmp_path / "model.ckpt", variables)
    with pytest.raises(WeightsError, match="Conv1"):
        read(tmp_path / "model.ckpt")


def test_the_graph_beside_a_detector(tmp_path: Path) -> None:
    """It shows the settings; without it they have their defaults, and a damaged one is refused."""
    checkpoint = random_checkpoint("detection")
    prefix = write_bundle(tmp_path / "model.ckpt", slim_variables(checkpoint))
    assert read(prefix).config.ssd == SSDConfig()
    graph = b"".join([*scores("Softmax"), *suppression(2, 2, iou=0.45, score=0.3, clip="first")])
    (tmp_path / "model.ckpt.meta").write_bytes(field(1, b"") + field(2, graph))
    found = read(prefix).config.ssd
    assert found == SSDConfig(score_converter="softmax", nms=NonMaxSuppression(0.3, 0.45, clipping="first"))
    (tmp_path / "model.ckpt.meta").write_bytes(b"\xff" * 20)
    with pytest.raises(WeightsError, match=r"model\.ckpt\.meta"):
        read(prefix)


@pytest.mark.parametrize("fields", [{}, {"decoder": True}, {"atrous_rates": (6, 12, 18), "output_stride": 16}])
def test_deeplab_checkpoint(tmp_path: Path, fields) -> None:
    checkpoint = random_checkpoint("segmentation", **{"output_stride": 16, **fields})
    write_bundle(tmp_path / "model.ckpt", slim_variables(checkpoint))
    found = read(tmp_path / "model.ckpt")
    assert found.task == "segmentation"
    assert (found.config.decoder, found.config.atrous_rates, found.config.output_stride) == (
        checkpoint.config.decoder,
        checkpoint.config.atrous_rates,
        16,
    )
    assert found.preprocessing == {"preset": "deeplab", "size": 513}
    assert_same_weights(found.weights, checkpoint.weights)


def _flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_the_checksum_of_every_block_is_compared(tmp_path: Path) -> None:
    """A letter of a name: nothing but the checksum shows the damage."""
    write_bundle(tmp_path / "model.ckpt", slim_variables(random_checkpoint()))
    index = tmp_path / "model.ckpt.index"
    _flipped(index, index.read_bytes().index(b"expanded_conv"))
    with pytest.raises(WeightsError, match="checksum of a block is wrong"):
        read(tmp_path / "model.ckpt")


def test_the_checksum_of_every_variable_is_compared(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    write_bundle(tmp_path / "model.ckpt", slim_variables(checkpoint))
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    for name in ("Conv1/kernel", "predictions/bias"):
        place = data.read_bytes().index(checkpoint.weights[name].tobytes())
        _flipped(data, place)
        with pytest.raises(WeightsError, match=r"checksum of 'MobilenetV2/.*' is wrong"):
            read(tmp_path / "model.ckpt")
        _flipped(data, place)
    assert_same_weights(read(tmp_path / "model.ckpt").weights, checkpoint.weights)


def test_names_have_a_limit(tmp_path: Path) -> None:
    """Names are stored as what they add to the one before, so that a small block could hold very long ones."""
    for length, refused in ((4096, False), (4097, True)):
        name = "x" * (length - 7) + "/kernel"
        write_bundle(tmp_path / "model.ckpt", {**slim_variables(random_checkpoint()), name: np.zeros(1, np.float32)})
        with pytest.raises(WeightsError, match="does not fit into its block" if refused else "1 unexpected"):
            read(tmp_path / "model.ckpt")
