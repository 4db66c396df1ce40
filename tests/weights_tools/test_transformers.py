"""Directories of transformers, in and out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from weight_files import folded, random_checkpoint, randomize

from npmnv2 import MobileNetV2ForImageClassification, WeightsError
from npmnv2.backends.selection import get_backend
from npmnv2.network.deeplab import segmenter
from npmnv2.weights.checkpoint import fold_batch_norms
from npmnv2.weights_tools import detect_format, read, write_transformers


@pytest.fixture(scope="module")
def hf():
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


@pytest.fixture
def photo(shared_data: Path) -> np.ndarray:
    image = Image.open(shared_data / "photos" / "cat.bmp").convert("RGB").resize((96, 96))
    return (np.asarray(image, np.float32) / 127.5 - 1).transpose(2, 0, 1)[np.newaxis]


CLASSES = {
    "classification": "MobileNetV2ForImageClassification",
    "segmentation": "MobileNetV2ForSemanticSegmentation",
    "features": "MobileNetV2Model",
}


@pytest.mark.parametrize("task", CLASSES)
def test_what_transformers_saves_comes_back_bit_equal(hf, tmp_path: Path, task) -> None:
    fields = {} if task == "features" else {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    config = hf.MobileNetV2Config(depth_multiplier=0.35, output_stride=8 if task == "segmentation" else 32, **fields)
    network = getattr(hf, CLASSES[task])(config).eval()
    randomize(network)
    network.save_pretrained(tmp_path / "theirs")
    assert detect_format(tmp_path / "theirs") == "transformers"
    found = read(tmp_path / "theirs")
    assert found.task == task
    assert found.labels == (None if task == "features" else ("a", "b", "c"))
    assert found.config.output_stride == config.output_stride
    write_transformers(found, tmp_path / "ours")
    again, info = getattr(hf, CLASSES[task]).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs, ours = network.state_dict(), again.state_dict()
    for name, value in theirs.items():
        # The last convolution of a segmentation model is used by nothing and not kept.
        if task != "segmentation" or "conv_1x1" not in name or name.endswith("num_batches_tracked"):
            assert ours[name].dtype == value.dtype
            assert ours[name].equal(value), name
    assert again.config.id2label == network.config.id2label


def test_logits_of_transformers_on_a_photo(hf, tmp_path: Path, photo) -> None:
    import torch

    network = hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(depth_multiplier=0.35, num_labels=7)).eval()
    randomize(network)
    network.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = network(torch.from_numpy(photo)).logits.numpy()
    for path in (tmp_path, tmp_path / "model.safetensors"):
        model = MobileNetV2ForImageClassification.from_checkpoint(read(path), backend="numpy")
        assert np.abs(model(photo).logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_segmentation_logits_of_transformers_on_a_photo(hf, tmp_path: Path, photo) -> None:
    import torch

    config = hf.MobileNetV2Config(depth_multiplier=0.35, num_labels=7, output_stride=16)
    network = hf.MobileNetV2ForSemanticSegmentation(config).eval()
    randomize(network)
    network.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = network(torch.from_numpy(photo)).logits.numpy()
    found = read(tmp_path)
    plan = segmenter(found.config)
    run = get_backend("numpy").compile(plan, fold_batch_norms(plan, found.weights))
    logits = run(np.ascontiguousarray(photo.transpose(0, 2, 3, 1)), ("logits_semantic",))["logits_semantic"]
    assert np.abs(logits.transpose(0, 3, 1, 2) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_folded_weights_get_neutral_batch_norms(hf, tmp_path: Path) -> None:
    import torch

    checkpoint = random_checkpoint(depth_multiplier=0.35, expand_ratio=6, finegrained_output=True)
    image = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    logits = []
    for number, each in enumerate((checkpoint, folded(checkpoint))):
        write_transformers(each, tmp_path / str(number))
        network = hf.MobileNetV2ForImageClassification.from_pretrained(tmp_path / str(number)).eval()
        with torch.no_grad():
            logits.append(network(torch.from_numpy(image)).logits.numpy())
    assert np.abs(logits[0] - logits[1]).max() <= 1e-4 * np.abs(logits[0]).max()


def test_deeplab_goes_from_tflite_to_transformers(hf, shared_data: Path, tmp_path: Path) -> None:
    import torch

    found = read(shared_data / "weights" / "segmentation" / "deeplabv3.tflite")
    write_transformers(found, tmp_path)
    network = hf.MobileNetV2ForSemanticSegmentation.from_pretrained(tmp_path).eval()
    assert network.config.id2label[15] == "person"
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 257, 257)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).logits.numpy()
    plan = segmenter(found.config)
    run = get_backend("numpy").compile(plan, fold_batch_norms(plan, found.weights))
    logits = run(np.ascontiguousarray(image.transpose(0, 2, 3, 1)), ("logits_semantic",))["logits_semantic"]
    assert np.abs(logits.transpose(0, 3, 1, 2) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_processor_travels_to_transformers(hf, tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    checkpoint.preprocessing = {"preset": "hf", "size": 96, "image_mean": [0.1, 0.2, 0.3]}
    write_transformers(checkpoint, tmp_path)
    processor = hf.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert dict(processor.crop_size) == {"height": 96, "width": 96}
    assert dict(processor.size) == {"shortest_edge": 128}
    assert list(processor.image_mean) == [0.1, 0.2, 0.3]
    assert read(tmp_path).preprocessing["image_mean"] == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("preset", ["slim", "deeplab", "ssd"])
def test_preprocessing_that_transformers_cannot_do_becomes_its_default(tmp_path: Path, preset) -> None:
    checkpoint = random_checkpoint()
    checkpoint.preprocessing = {"preset": preset, "size": 160}
    write_transformers(checkpoint, tmp_path)
    values = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert values["size"] == {"shortest_edge": 192}
    assert not {"central_fraction", "pad_size"} & set(values)


@pytest.mark.parametrize(
    ("task", "fields", "words"),
    [
        ("segmentation", {"decoder": True}, "no layer decoder_feature_projection0"),
        ("classification", {"width_rule": "slim"}, "does not add the input in the first block"),
    ],
)
def test_what_transformers_does_not_have_is_refused(tmp_path: Path, task, fields, words) -> None:
    with pytest.raises(WeightsError, match=words):
        write_transformers(random_checkpoint(task, **fields), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_files_and_pickles(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        read(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(FileNotFoundError, match="pickle, which can run code"):
        read(tmp_path)
    with pytest.raises(WeightsError, match="pickle can run code"):
        read(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "bert"}'),
        ("config.json", '{"depth_multiplier": -1}'),
        ("config.json", '{"depth_multiplier": 1e400}'),
        ("config.json", '{"num_labels": 1000000000}'),
        ("config.json", '{"id2label": {"a": "b"}}'),
        ("config.json", '{"id2label": 3}'),
        ("config.json", "[" * 100_000),
        ("preprocessor_config.json", '{"size": "large"}'),
        ("preprocessor_config.json", '{"unheard_of": 1}'),
    ],
)
def test_broken_json_is_named(tmp_path: Path, file, text) -> None:
    write_transformers(random_checkpoint(), tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(WeightsError) as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_numbered_labels_are_none(tmp_path: Path) -> None:
    """transformers writes LABEL_0, LABEL_1, … where nobody named the classes."""
    write_transformers(random_checkpoint(num_labels=3), tmp_path / "numbered")
    assert read(tmp_path / "numbered").labels is None
    write_transformers(random_checkpoint(labels=("LABEL_0", "cat", "LABEL_2")), tmp_path / "named")
    assert read(tmp_path / "named").labels == ("LABEL_0", "cat", "LABEL_2")
