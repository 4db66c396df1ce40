"""Figures in the sentences of the pages are those of the code. Tables are compared in benchmarks/test_benchmarks.py."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from importlib import resources

import numpy as np
import pytest
import snippets

import npmnv2
from npmnv2.hub import archives
from npmnv2.hub.registry import ENTRIES
from npmnv2.hub.transport import Downloader
from npmnv2.images import loading
from npmnv2.kernels import quantized
from npmnv2.labels import segmentation_labels
from npmnv2.models import segmentation
from npmnv2.network import config
from npmnv2.network.ssd import anchor_count
from npmnv2.weights import bounds, hdf5
from npmnv2.weights_tools import graph, tf_checkpoint

if not (snippets.ROOT / "docs").is_dir():
    pytest.skip("needs the repository", allow_module_level=True)

WORDS = {"five": 5}
MIB, GIB = 1 << 20, 1 << 30
SOURCES = Counter((entry.source, entry.task) for entry in ENTRIES)


def depthwise_of_the_cat() -> tuple[int, int]:
    """How many values of one integer layer the two arithmetics round differently, of how many."""
    model = npmnv2.load()
    raw = model.trace(model.prepare([str(resources.files("npmnv2") / "data" / "cat.jpg")]), raw=True)
    name = "expanded_conv_depthwise"
    part = next(part for part in model.plan.parts() if part.name == name)
    weights = model.weights[f"{name}/kernel"][..., 0], model.weights[f"{name}/bias"]
    steps = model.quantization.values["Conv1"], model.quantization.kernels[name], model.quantization.values[name]
    geometry = part.layer.geometry(*raw["Conv1"].shape[1:3])
    other = quantized.depthwise(raw["Conv1"], *weights, geometry, steps, "reference")
    return np.count_nonzero(other != raw[name]), other.size


FIGURES: list[tuple[str, str, Callable[[], tuple[object, ...]]]] = [
    (
        "docs/checkpoints.md",
        r"ImageNet classifiers: (\d+), (\d+) classes",
        lambda: (SOURCES["tensorflow", "classification"], 1001),
    ),
    ("docs/checkpoints.md", r"or --all: (\d+) checkpoints", lambda: (sum(e.source == "tensorflow" for e in ENTRIES),)),
    (
        "docs/checkpoints.md",
        r"Pascal VOC \((\d+)\), Cityscapes \((\d+)\), ADE20K \((\d+)\)",
        lambda: tuple(len(segmentation_labels(name)) for name in ("voc", "cityscapes", "ade20k")),
    ),
    (
        "docs/checkpoints.md",
        r"more than ([\d,]+) members, more than (\d) GiB in one or (\d) GiB in all",
        lambda: (archives.MAX_MEMBERS, archives.MAX_MEMBER_BYTES // GIB, archives.MAX_ARCHIVE_BYTES // GIB),
    ),
    (
        "docs/detection.md",
        r"(\d+) in all\n```",
        lambda: (anchor_count(config.MobileNetV2Config(), 300, 300),),
    ),
    (
        "docs/detection.md",
        r"They follow the input: 320×320 pixels have (\d+)",
        lambda: (anchor_count(config.MobileNetV2Config(), 320, 320),),
    ),
    ("docs/segmentation.md", r"refused beforehand above (\d) GB", lambda: (segmentation.MAX_SCORE_BYTES // GIB,)),
    ("README.md", r"formats of Pillow, up to (\d) GiB", lambda: (loading.MAX_FILE_BYTES // GIB,)),
    (
        "docs/checkpoints.md",
        r"stalls for (\d+) s is retried up to (\w+) times",
        lambda: (Downloader.stall, Downloader.attempts),
    ),
    ("docs/checkpoints.md", r"does not answer within (\d+) s", lambda: (Downloader.first_answer,)),
    ("docs/integers.md", r"In this layer ([\d,]+) of\s+([\d,]+) numbers differ", depthwise_of_the_cat),
    (
        "docs/weights.md",
        r"work to read a file \| ([\d,]+) steps, and one more for each (\d) bytes",
        lambda: (bounds._FREE_STEPS, int(1 / bounds._STEPS_PER_BYTE)),
    ),
    ("docs/weights.md", r"memory to read a file \| (\d+) MiB", lambda: (bounds._FREE_BYTES // MIB,)),
    ("docs/weights.md", r"bytes taken from a checkpoint \| (\d+) GiB", lambda: (bounds.MAX_FILE_BYTES // GIB,)),
    (
        "docs/weights.md",
        r"index of a TensorFlow checkpoint \| (\d+) MiB",
        lambda: (tf_checkpoint.MAX_INDEX_BYTES // MIB,),
    ),
    ("docs/weights.md", r"JSON file \| (\d+) MiB", lambda: (bounds.MAX_JSON_BYTES // MIB,)),
    ("docs/weights.md", r"variables in a file \| ([\d,]+)", lambda: (bounds.MAX_TENSORS,)),
    (
        "docs/weights.md",
        r"operations in a frozen graph; [^|]*\| ([\d,]+); ([\d,]+)",
        lambda: (graph.MAX_NODES, config._MOST_LABELS),
    ),
    ("docs/weights.md", r"\| name \| ([\d,]+) bytes", lambda: (bounds.MAX_NAME_BYTES,)),
    ("docs/weights.md", r"nested groups of HDF5 \| (\d); (\d+)", lambda: (bounds.MAX_RANK, hdf5._MAX_DEPTH)),
]


@pytest.mark.parametrize(("page", "pattern", "figures"), FIGURES, ids=[pattern for _, pattern, _ in FIGURES])
def test_a_figure_of_a_sentence(page: str, pattern: str, figures: Callable[[], tuple[object, ...]]) -> None:
    found = re.search(pattern, (snippets.ROOT / page).read_text(encoding="utf-8"))
    assert found, "the sentence is gone: change or remove the pattern here"
    assert tuple(WORDS.get(number) or int(number.replace(",", "")) for number in found.groups()) == figures()
