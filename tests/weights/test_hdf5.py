"""The HDF5 reader against h5py, which writes the files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npmnv2 import WeightsError
from npmnv2.weights.hdf5 import File

# h5py switches to the newer groups for names beyond ASCII, which no layer has.
NAMES = st.text("abcXYZ019_-:", min_size=1, max_size=12)
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
DTYPES = st.sampled_from(["<f2", "<f4", "<f8", ">f4", "<i4", "u1"])
LEAVES = st.tuples(SHAPES, DTYPES)
# Up to 40 members: more than the leaves of a group's tree hold.
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=40), max_leaves=30)


def fill(group, tree, rng) -> None:
    for name, content in tree.items():
        if isinstance(content, dict):
            fill(group.create_group(name), content, rng)
        else:
            shape, dtype = content
            group[name] = np.asarray(rng.normal(size=shape) * 50).astype(dtype)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, TREES, max_size=40), st.integers(0, 99))
def test_every_array_is_what_h5py_reads(tmp_path_factory, tree, seed) -> None:
    path = tmp_path_factory.mktemp("hdf5") / "file.h5"
    with h5py.File(path, "w") as file:
        fill(file, tree, np.random.default_rng(seed))
    found = {array.path: array for array in File.open(path).arrays()}
    with h5py.File(path) as file:
        expected = []
        file.visititems(lambda name, item: expected.append(name) if isinstance(item, h5py.Dataset) else None)
        assert list(found) == expected
        for name, array in found.items():
            dataset = file[name]
            assert array.shape == dataset.shape
            if dataset.dtype.str in ("<f2", "<f4", "<f8", "<i4", "|u1", "|i1"):
                assert np.array_equal(array.values(), dataset[()])
                assert array.values().dtype == dataset.dtype
            else:
                assert array.dtype is None


@settings(max_examples=60)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=300),
    st.booleans(),
)
def test_text_attributes(tmp_path_factory, text, fixed) -> None:
    path = tmp_path_factory.mktemp("hdf5") / "file.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("a/b")
        group.attrs["number"] = 7
        group.attrs["list"] = ["x", "y"]
        group.attrs["other"] = "another text"
        group.attrs["text"] = np.bytes_(text.encode()) if fixed and text else text
    file = File.open(path)
    file.arrays()
    assert file.text("a/b", "text") == text
    assert file.text("a/b", "other") == "another text"
    for name in ("number", "list", "absent", "tex"):
        assert file.text("a/b", name) is None
    assert file.text("", "text") is file.text("nowhere", "text") is None


def test_long_texts_and_many_attributes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        for number in range(100):
            file.attrs[f"text{number}"] = str(number) * 5000
    file = File.open(tmp_path / "file.h5")
    assert file.arrays() == []
    assert all(file.text("", f"text{number}") == str(number) * 5000 for number in range(100))


def test_second_names_count_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["a/kernel"] = np.ones(3, np.float32)
        file["b"] = file["a"]
        file["c"] = file["a/kernel"]
        file["a/loop"] = file["/"]
    assert [array.path for array in File.open(tmp_path / "file.h5").arrays()] == ["a/kernel"]


def test_nested_groups_have_a_limit(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["/".join("g" * 1000) + "/kernel"] = np.ones(3, np.float32)
    with pytest.raises(WeightsError, match="nested deeper than 32"):
        File.open(tmp_path / "file.h5")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["group/kernel"] = np.ones((3, 5), np.float32)
    data = (tmp_path / "file.h5").read_bytes()
    (array,) = File.open(tmp_path / "file.h5").arrays()
    end = data.index(np.ones((3, 5), np.float32).tobytes()) + array.values().nbytes
    for length in range(0, end, 97):
        (tmp_path / "short.h5").write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"short\.h5"):
            File.open(tmp_path / "short.h5").arrays()


@pytest.mark.parametrize("shape", [(0, 1 << 40), (0, *[1 << 20] * 4), (1,) * 9, (1 << 20, 1 << 20)])
def test_impossible_shapes(tmp_path: Path, shape) -> None:
    """Empty arrays have no bytes that could show that a shape is damaged."""
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.create_dataset("Conv1/kernel", shape, "f4")
    with pytest.raises(WeightsError, match=r"file\.h5: .*array 'Conv1/kernel': impossible shape"):
        File.open(tmp_path / "file.h5")
