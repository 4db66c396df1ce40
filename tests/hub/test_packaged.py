"""The checkpoint that comes with the package: whole, small, and usable without network and without Numba."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from children import run_python

import npmnv2
from npmnv2 import OfflineError
from npmnv2.files import sha256
from npmnv2.hub import PACKAGED
from npmnv2.hub.fetch import catalog
from npmnv2.hub.registry import entry
from npmnv2.weights_tools import read


@pytest.fixture(scope="module")
def path() -> Path:
    return Path(str(resources.files("npmnv2") / "data" / f"{PACKAGED}.h5"))


def test_size_and_digest(path) -> None:
    assert path.stat().st_size <= 3_900_000
    assert entry(PACKAGED).digest == f"sha256:{sha256(path)}"


def test_it_is_found_by_its_name_without_a_cache(path, home, monkeypatch) -> None:
    monkeypatch.setenv("NPMNV2_OFFLINE", "1")
    assert npmnv2.fetch(PACKAGED) == path
    assert not home.exists()
    (row,) = [row for row in catalog() if row["name"] == PACKAGED]
    assert (row["cached"], row["sources"], row["license"]) == (True, ["package"], "Apache-2.0")


def test_what_is_out_of_reach_points_to_it(home, monkeypatch) -> None:
    monkeypatch.setenv("NPMNV2_OFFLINE", "1")
    with pytest.raises(OfflineError, match=f"These work offline here: .*{PACKAGED}"):
        npmnv2.load("mobilenet_v2_1.4_224")


def test_it_holds_the_integers_of_the_published_file(path, shared_data) -> None:
    original = read(shared_data / "weights" / "classification" / f"{PACKAGED}.tflite")
    packaged = read(path)
    assert packaged.quantization == original.quantization
    assert packaged.source["sha256"] == original.source["sha256"]
    assert packaged.labels[286] == "Egyptian cat"
    for name, value in original.weights.items():
        assert packaged.weights[name].dtype == value.dtype
        assert np.array_equal(packaged.weights[name], value), name


def test_default_model_without_numba_and_network(tmp_path) -> None:
    code = """
import socket, sys
sys.modules["numba"] = None
def refuse(*_): raise AssertionError("network")
socket.socket.connect = refuse
from importlib import resources
model = npmnv2.load()
cat = str(resources.files("npmnv2") / "data" / "cat.jpg")
best, features = model.predict(cat).top, model.features(cat)
print(best.label, features.dtype, features.shape, sep="|")
"""
    label, dtype, shape = run_python(code, tmp_path, NPMNV2_HOME=str(tmp_path / "home")).split("|")
    assert label == "Egyptian cat" or "tabby" in label
    assert (dtype, shape) == ("float32", "(1280,)")
    assert not (tmp_path / "home").exists()
