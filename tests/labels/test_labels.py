"""Class labels and color maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npmnv2 import labels


def test_imagenet_is_in_wordnet_order_after_the_background():
    rows = labels.imagenet_labels()
    assert len(rows) == 1001
    assert rows[0] == (None, "background")
    wnids = [row.wnid for row in rows[1:]]
    assert wnids == sorted(set(wnids))
    assert rows[286] == ("n02124075", "Egyptian cat")
    assert rows[1000].wnid == "n15075141"


def test_imagenet_agrees_with_the_list_of_another_project(shared_data: Path):
    listed = (shared_data / "labels" / "imagenet_labels.txt").read_text().splitlines()
    assert list(labels.labels_for(1001)) == listed


def test_names_of_two_classes_stay_apart():
    cranes = [row.wnid for row in labels.imagenet_labels() if row.label == "crane"]
    assert cranes == ["n02012849", "n03126707"]
    full = labels.labels_for(1000)
    assert labels.wnids_for(full) == tuple(row.wnid for row in labels.imagenet_labels()[1:])
    assert labels.wnids_for(labels.labels_for(1001))[0] is None


def test_wnids_of_other_label_lists_are_by_unambiguous_name():
    assert labels.wnids_for(["Egyptian cat", "crane", "my class"]) == ("n02124075", None, None)


def test_coco_ids_have_the_known_gaps():
    coco = labels.coco_labels()
    assert len(coco) == 80
    assert set(range(1, 91)) - set(coco) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert (coco[1], coco[17], coco[85], coco[90]) == ("person", "cat", "clock", "toothbrush")


def test_coco_agrees_with_the_list_of_another_project(shared_data: Path):
    listed = (shared_data / "labels" / "coco_labels.txt").read_text().splitlines()
    assert list(labels.labels_for(90, "detection")) == listed
    assert labels.labels_for(91, "detection") == ("background", *listed)


@pytest.mark.parametrize(
    ("dataset", "count", "first", "last"),
    [
        ("voc", 21, "background", "tvmonitor"),
        ("cityscapes", 19, "road", "bicycle"),
        ("ade20k", 151, "background", "flag"),
    ],
)
def test_segmentation_data_sets(dataset, count, first, last):
    names = labels.segmentation_labels(dataset)
    colors = labels.color_map(dataset)
    assert (len(names), names[0], names[-1]) == (count, first, last)
    assert all(name == name.strip() != "" for name in names)
    assert (colors.shape, colors.dtype) == ((count, 3), np.uint8)
    assert labels.labels_for(count, "segmentation") == names


def test_voc_labels_agree_with_the_list_of_another_project(shared_data: Path):
    listed = (shared_data / "labels" / "pascal_voc_segmentation_labels.txt").read_text().splitlines()
    assert list(labels.segmentation_labels("voc")) == listed[:21]


def test_colors_are_the_published_ones():
    assert labels.color_map("voc")[[0, 1, 2, 4, 8, 15, 20]].tolist() == [
        *([0, 0, 0], [128, 0, 0], [0, 128, 0], [0, 0, 128], [64, 0, 0], [192, 128, 128], [0, 64, 128])
    ]
    assert labels.voc_colors(256)[255].tolist() == [224, 224, 192]
    assert labels.color_map("cityscapes")[[0, 13]].tolist() == [[128, 64, 128], [0, 0, 142]]
    assert labels.color_map("ade20k")[[0, 1, 3]].tolist() == [[0, 0, 0], [120, 120, 120], [6, 230, 230]]


@pytest.mark.parametrize("dataset", ["voc", "cityscapes"])
def test_no_two_classes_share_a_color(dataset):
    colors = {tuple(color) for color in labels.color_map(dataset).tolist()}
    assert len(colors) == len(labels.segmentation_labels(dataset))


def test_color_maps_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        labels.color_map("voc")[0] = 1


def test_nothing_is_guessed_for_unknown_counts():
    assert labels.labels_for(19) is None
    assert labels.labels_for(19, "segmentation")[0] == "road"
    assert labels.labels_for(7, "segmentation") is None


def test_bad_arguments():
    with pytest.raises(ValueError, match="dataset \\(='coco'\\) must be"):
        labels.segmentation_labels("coco")
    for count in (0, 257):
        with pytest.raises(ValueError, match=f"num_classes \\(={count}\\) must be from 1 to 256"):
            labels.voc_colors(count)
