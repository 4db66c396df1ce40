"""What `info` says of a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from weight_files import folded, random_checkpoint

from npmnv2.files import sha256
from npmnv2.weights_tools import WRITERS, convert, inspect


def test_facts_of_a_file(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(labels=("a", "b", "c"))
    WRITERS["native"](checkpoint, tmp_path / "model.h5")
    facts = inspect(tmp_path / "model.h5")
    assert facts["format"] == "hdf5"
    assert facts["readable"] is True
    assert (facts["task"], facts["classes"], facts["ema"], facts["batch_norm"]) == (
        "classification",
        3,
        False,
        "unfolded",
    )
    assert facts["config"]["depth_multiplier"] == 0.05
    assert len(facts["tensors"]) == 262
    assert facts["tensors"][0] == "Conv1/kernel (3, 3, 3, 8)"
    assert facts["parameters"] == sum(value.size for value in checkpoint.weights.values())
    assert facts["labels"] == ["a", "b", "c"]
    assert facts["missing"] == []
    assert facts["sha256"] == sha256(tmp_path / "model.h5")
    assert len(facts["digest"]) == 64
    json.dumps(facts)


def test_digests_are_those_of_the_file_itself(tmp_path: Path) -> None:
    WRITERS["npz"](random_checkpoint(), tmp_path / "model.npz")
    convert(tmp_path / "model.npz", tmp_path / "model.h5")
    made_of, facts = inspect(tmp_path / "model.npz"), inspect(tmp_path / "model.h5")
    assert made_of["sha256"] == sha256(tmp_path / "model.npz")
    assert made_of["digest"] is None
    assert facts["sha256"] == sha256(tmp_path / "model.h5")
    assert facts["source"]["sha256"] == made_of["sha256"]


def test_facts_of_what_is_missing(tmp_path: Path) -> None:
    WRITERS["npz"](folded(random_checkpoint("features")), tmp_path / "model.npz")
    assert inspect(tmp_path / "model.npz")["missing"] == ["classifier", "batch norms (folded)"]
    np.savez(tmp_path / "bad.npz", x=np.zeros(3))
    facts = inspect(tmp_path / "bad.npz")
    assert facts["readable"] is False
    assert "holds no variable of a MobileNetV2; it holds x" in facts["problem"]
