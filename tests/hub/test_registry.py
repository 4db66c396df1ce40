"""The registry of public checkpoints."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from npmnv2 import labels
from npmnv2.errors import ArgumentError
from npmnv2.hub.registry import ENTRIES, SOURCES, entry, names
from npmnv2.images.processor import PRESETS
from npmnv2.network.architecture import classifier
from npmnv2.network.config import MobileNetV2Config

CLASSIFIERS = [known for known in ENTRIES if known.source == "tensorflow" and known.task == "classification"]


def test_all_official_checkpoints_are_there():
    widths = {"1.0": 5, "0.75": 5, "0.5": 5, "0.35": 5, "1.3": 1, "1.4": 1}
    assert len(CLASSIFIERS) == sum(widths.values()) == 22
    assert len([known for known in ENTRIES if known.task == "segmentation" and known.source == "tensorflow"]) == 6
    assert len(names("keras")) == 2 * 22
    assert {"ssdlite_mobilenet_v2_coco", "ssd_mobilenet_v2_coco"} <= set(names("tensorflow"))
    assert set(names()) == {name for source in SOURCES for name in names(source)}


def test_entries_are_distinct():
    assert len({(known.name, known.source) for known in ENTRIES}) == len(ENTRIES)
    assert len({known.file for known in ENTRIES}) == len(ENTRIES)
    urls = [url for known in ENTRIES for url in known.urls]
    assert len(set(urls)) == len(urls)


@pytest.mark.parametrize("known", ENTRIES, ids=lambda known: known.file)
def test_entries_are_whole(known):
    assert known.source in SOURCES
    for url in known.urls:
        assert urlsplit(url).scheme == "https"
        assert not urlsplit(url).query
    assert known.preprocessing["preset"] in {*PRESETS, "ssd"}
    assert known.license
    assert all(0 < percent < 100 for percent in known.accuracy.values())
    assert (known.labels is None) == (known.task == "features")
    assert known.labels is None or len(known.labels) == known.num_classes
    if known.digest:
        algorithm, _, digest = known.digest.partition(":")
        assert re.fullmatch("[0-9a-f]+", digest)
        assert len(digest) == {"sha256": 64, "sha384": 96}[algorithm]


def test_accuracy_grows_with_the_work_within_one_width():
    for multiplier in (0.35, 0.5, 0.75, 1.0):
        row = [known for known in CLASSIFIERS if known.depth_multiplier == multiplier]
        row.sort(key=lambda known: known.image_size)
        assert [known.image_size for known in row] == [96, 128, 160, 192, 224]
        for measure in ("top-1", "top-5"):
            values = [known.accuracy[measure] for known in row]
            assert values == sorted(values)


@pytest.mark.parametrize("known", CLASSIFIERS, ids=lambda known: known.name)
def test_names_describe_networks_that_can_be_built(known):
    assert known.name == f"mobilenet_v2_{known.depth_multiplier}_{known.image_size}"
    config = MobileNetV2Config(
        depth_multiplier=known.depth_multiplier, image_size=known.image_size, num_labels=known.num_classes
    )
    assert classifier(config).parameter_shapes()["predictions/bias"] == (1001,)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("mobilenet_v2_1.0_224", "mobilenet_v2_1.0_224"),
        ("mobilenet_v2_0.50_224", "mobilenet_v2_0.5_224"),
        ("mobilenet_v2_1_96", "mobilenet_v2_1.0_96"),
        ("MobileNetV2_1.4_224", "mobilenet_v2_1.4_224"),
        ("0.35_160", "mobilenet_v2_0.35_160"),
        ("mobilenet_v2_0.5_96_no_top", "mobilenet_v2_0.5_96_no_top"),
        ("mobilenetv2_coco_voc_trainaug", "deeplabv3_mnv2_pascal_train_aug"),
        ("deeplabv3_mnv2_ade20k_train_2018_12_03", "deeplabv3_mnv2_ade20k_train"),
        ("ssdlite_mobilenet_v2_coco_2018_05_09", "ssdlite_mobilenet_v2_coco"),
        ("Google/MobileNet_v2_1.0_224", "google/mobilenet_v2_1.0_224"),
    ],
)
def test_spellings(spelling, name):
    assert entry(spelling).name == name


def test_a_source_may_be_named():
    assert entry("1.0_224").num_classes == 1001
    keras = entry("1.0_224", source="keras")
    assert (keras.num_classes, keras.labels[0]) == (1000, "tench, Tinca tinca")
    with pytest.raises(ValueError, match="must be a checkpoint of source 'pypi'"):
        entry("1.0_224", source="pypi")
    with pytest.raises(ValueError, match=r"source \(='torch'\) must be one of tensorflow, keras"):
        entry("1.0_224", source="torch")


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("mobilenet_v2", ["mobilenet_v2_1.0_224", "mobilenet_v2_1.0_224_quant", "mobilenet_v2_1.0_192"]),
        ("mobilenet_v2_1.0_244", ["mobilenet_v2_1.0_224"]),
        ("mobilnet_v2_1.4_224", ["mobilenet_v2_1.4_224"]),
        ("google/mobilenet_v2_1.0_244", ["google/mobilenet_v2_1.0_224"]),
        ("deeplab", ["deeplabv3_mnv2_cityscapes_train", "deeplabv3_mnv2_pascal_train_aug"]),
        ("dogs", ["dogs19_mobilenet_v2_1.0_160"]),
        ("resnet50", []),
    ],
)
def test_an_unknown_name_gets_the_nearest_and_how_to_list_all(typed, nearest):
    with pytest.raises(ArgumentError) as caught:
        entry(typed)
    message = str(caught.value)
    assert message.startswith(f"name (='{typed}') must be a checkpoint. ")
    if nearest:
        assert f"Nearest: {', '.join(nearest)}" in message
    assert message.endswith("All names: npmnv2 list")
    assert len(set(re.findall(r"[\w./]+\w", message)) & (set(names()) - {typed})) <= 3


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("1.4_96", "Checkpoints of 1.4 exist for the image sizes 224. "),
        ("mobilenet_v2_0.50_200", "Checkpoints of 0.5 exist for the image sizes 96, 128, 160, 192, 224. "),
        ("1.1_224", "Checkpoints exist for the depth multipliers 0.35, 0.5, 0.75, 1.0, 1.3, 1.4. "),
    ],
)
def test_an_unknown_size_or_width_gets_those_that_exist(name, hint):
    with pytest.raises(ValueError, match=re.escape(hint)):
        entry(name)


def test_the_dogs_are_a_choice_from_imagenet():
    dogs = entry("dogs19_mobilenet_v2_1.0_160")
    assert (dogs.labels[0], dogs.labels[-1]) == ("Chihuahua", "miniature poodle")
    assert labels.wnids_for(dogs.labels) == dogs.wnids
    # Dogs are n02085620 … n02113978 in WordNet's order.
    assert list(dogs.wnids) == sorted(dogs.wnids)
