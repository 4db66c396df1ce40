"""Class labels and color maps of the data sets that MobileNetV2 checkpoints were trained on.

The tables are ``.tsv`` files beside this module; :mod:`npmnv2.labels.build` says where they come from.
Class names are not unique (ImageNet has two cranes and two maillots): key on the index or the WordNet id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npmnv2.errors import ArgumentError

__all__ = [
    "BACKGROUND",
    "IGNORE_INDEX",
    "NO_LABEL",
    "Label",
    "coco_labels",
    "color_map",
    "imagenet_labels",
    "labels_for",
    "segmentation_labels",
    "voc_colors",
    "wnids_for",
]

BACKGROUND = "background"
"""Label of class 0 where a data set has one: ImageNet with 1001 classes, Pascal VOC, ADE20K."""

IGNORE_INDEX = 255
"""Pixel value in a mask that belongs to no class (Pascal VOC's object borders)."""

NO_LABEL = "n/a"
"""Label of a COCO id that no class uses."""

_COCO_IDS = 90


class Label(NamedTuple):
    """One ImageNet class: its WordNet id (None for the background) and its names."""

    wnid: str | None
    label: str


@cache
def imagenet_labels() -> tuple[Label, ...]:
    """The 1001 classes of the TensorFlow checkpoints: background, then ILSVRC 2012 in order of WordNet id.

    Keras and torchvision count 1000 classes: theirs are ``imagenet_labels()[1:]``.
    """
    return (Label(None, BACKGROUND), *(Label(wnid, label) for wnid, label in _rows("imagenet")))


@cache
def coco_labels() -> dict[int, str]:
    """COCO's 80 detection classes by their id, which runs from 1 to 90 with ten gaps."""
    return {int(number): label for number, label in _rows("coco")}


@cache
def segmentation_labels(dataset: str) -> tuple[str, ...]:
    """Labels of ``"voc"`` (21), ``"cityscapes"`` (19, by train id) or ``"ade20k"`` (151).

    VOC and ADE20K have the background at index 0; Cityscapes has none.
    """
    labels = tuple(row[-1] for row in _rows(_segmentation_dataset(dataset)))
    return (BACKGROUND, *labels) if dataset == "ade20k" else labels


@cache
def color_map(dataset: str) -> np.ndarray:
    """Colors in which ``"voc"``, ``"cityscapes"`` or ``"ade20k"`` masks are usually drawn.

    Returns
    -------
    np.ndarray, (classes, 3), uint8, read-only
        RGB, one row a class, in the order of :func:`segmentation_labels`.
    """
    if _segmentation_dataset(dataset) == "voc":
        return voc_colors(len(segmentation_labels("voc")))
    colors = [tuple(bytes.fromhex(color.removeprefix("#"))) for color, _ in _rows(dataset)]
    if dataset == "ade20k":
        colors.insert(0, (0, 0, 0))
    return _read_only(np.array(colors, np.uint8))


def voc_colors(num_classes: int) -> np.ndarray:
    """The color map of Pascal VOC, which is defined for any number of classes up to 256.

    The bits of the class index are dealt out to red, green and blue in turn, lowest first; each channel takes
    its share from its highest bit down.

    Returns
    -------
    np.ndarray, (num_classes, 3), uint8, read-only
        RGB; class 0 is black.
    """
    if not 1 <= num_classes <= 256:
        raise ArgumentError(f"num_classes (={num_classes}) must be from 1 to 256")
    index = np.arange(num_classes)[:, None]
    bits = index >> np.arange(8) & 1
    colors = np.zeros((num_classes, 3), np.uint8)
    for bit in range(8):
        colors[:, bit % 3] |= (bits[:, bit] << (7 - bit // 3)).astype(np.uint8)
    return _read_only(colors)


def labels_for(num_classes: int, task: str = "classification") -> tuple[str, ...] | None:
    """The labels that a model of a task and class count was in all likelihood trained on.

    Parameters
    ----------
    num_classes
        Width of the model's output: 1001 or 1000 (ImageNet with and without background), 21, 19 or 151 (VOC,
        Cityscapes, ADE20K), 90 or 91 (COCO without and with background).
    task
        ``"classification"``, ``"segmentation"`` or ``"detection"``.

    Returns
    -------
    tuple of str or None
        One label a class; None where the count says nothing.
    """
    known: dict[tuple[str, int], Callable[[], tuple[str, ...]]] = {
        ("classification", 1001): lambda: tuple(row.label for row in imagenet_labels()),
        ("classification", 1000): lambda: tuple(row.label for row in imagenet_labels()[1:]),
        ("segmentation", 21): lambda: segmentation_labels("voc"),
        ("segmentation", 19): lambda: segmentation_labels("cityscapes"),
        ("segmentation", 151): lambda: segmentation_labels("ade20k"),
        ("detection", 90): _coco_by_index,
        ("detection", 91): lambda: (BACKGROUND, *_coco_by_index()),
    }
    find = known.get((task, num_classes))
    return find() if find else None


def wnids_for(labels: Sequence[str]) -> tuple[str | None, ...]:
    """WordNet ids of a model's labels: by position for the full ImageNet lists, else by unambiguous name."""
    if tuple(labels) in (labels_for(1001), labels_for(1000)):
        return tuple(row.wnid for row in imagenet_labels()[-len(labels) :])
    return tuple(_wnid_by_name().get(label) for label in labels)


@cache
def _wnid_by_name() -> dict[str, str | None]:
    """WordNet id by ImageNet label; None for the name that two classes share."""
    names: dict[str, str | None] = {}
    for wnid, label in imagenet_labels():
        names[label] = None if label in names else wnid
    return names


def _coco_by_index() -> tuple[str, ...]:
    return tuple(coco_labels().get(number, NO_LABEL) for number in range(1, _COCO_IDS + 1))


def _segmentation_dataset(dataset: str) -> str:
    if dataset not in ("voc", "cityscapes", "ade20k"):
        raise ArgumentError(f"dataset (={dataset!r}) must be 'voc', 'cityscapes' or 'ade20k'")
    return dataset


def _rows(table: str) -> list[list[str]]:
    text = Path(__file__).with_name(f"{table}.tsv").read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if not line.startswith("# ")]


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
