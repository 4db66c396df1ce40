"""The native file, and files that are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npmnv2 import MobileNetV2Config, WeightsError
from npmnv2.network.architecture import classifier
from npmnv2.weights.checkpoint import Checkpoint, initialize
from npmnv2.weights.native import digest, read_h5, write_h5


def _same(a, b) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_native_file_keeps_everything(tmp_path: Path, checkpoint: Checkpoint) -> None:
    write_h5(checkpoint, tmp_path / "m.h5")
    again = read_h5(tmp_path / "m.h5")
    assert sorted(again.weights) == sorted(checkpoint.weights)
    assert all(np.array_equal(again.weights[k], v) for k, v in checkpoint.weights.items())
    assert again.config == checkpoint.config
    assert (again.task, again.labels, again.preprocessing) == (
        "classification",
        ("a", "ß", "c"),
        checkpoint.preprocessing,
    )
    assert again.source["ema"] is True
    assert len(again.source["sha256"]) == 64


def test_weights_stay_where_the_file_was_read_and_may_be_changed(tmp_path: Path, checkpoint: Checkpoint) -> None:
    write_h5(checkpoint, tmp_path / "m.h5")
    before = (tmp_path / "m.h5").read_bytes()
    arrays = read_h5(tmp_path / "m.h5").weights.values()
    addresses = [array.ctypes.data for array in arrays]
    assert max(addresses) - min(addresses) < len(before)
    assert not any(array.flags.owndata for array in arrays)
    for array in arrays:
        array[...] = 0
    assert (tmp_path / "m.h5").read_bytes() == before


@settings(max_examples=8)
@given(
    multiplier=st.sampled_from([0.1, 0.35, 0.5]),
    divisor=st.sampled_from([1, 8]),
    expansion=st.booleans(),
    classes=st.integers(1, 4),
)
def test_round_trip_of_random_configurations(tmp_path_factory, multiplier, divisor, expansion, classes) -> None:
    config = MobileNetV2Config(
        depth_multiplier=multiplier, depth_divisible_by=divisor, min_depth=divisor, first_layer_is_expansion=expansion,
        num_labels=classes, finegrained_output=False,
    )  # fmt: skip
    weights = initialize(classifier(config), config, 1)
    path = tmp_path_factory.mktemp("h5") / "m.h5"
    write_h5(Checkpoint(weights, "classification", config), path)
    again = read_h5(path)
    assert again.config == config
    assert all(np.array_equal(again.weights[k], v) for k, v in weights.items())


# --- strictness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable HDF5 file"),
        (b"PK\x03\x04 this is a zip", "not a readable HDF5 file"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 64, "not a readable HDF5 file"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.h5").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_h5(tmp_path / "m.h5")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path: Path, checkpoint: Checkpoint, share: float) -> None:
    write_h5(checkpoint, tmp_path / "m.h5")
    content = (tmp_path / "m.h5").read_bytes()
    (tmp_path / "m.h5").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match=r"m\.h5 is not a readable HDF5 file"):
        read_h5(tmp_path / "m.h5")


def test_other_hdf5_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["resnet/conv1/kernel"] = np.zeros((3, 3, 3, 4), "f4")
    with pytest.raises(WeightsError, match="holds no MobileNetV2"):
        read_h5(tmp_path / "m.h5")
    with pytest.raises(FileNotFoundError, match="absent"):
        read_h5(tmp_path / "absent.h5")


def test_files_that_point_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 64)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("Conv1/Conv1/kernel", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(WeightsError, match="points to another file"):
        read_h5(tmp_path / "m.h5")


def test_absurd_sizes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("Conv1/Conv1/kernel", (1 << 20, 1 << 20), "f4")
    with pytest.raises(WeightsError, match=r"impossible shape \(1048576, 1048576\)"):
        read_h5(tmp_path / "m.h5")


@pytest.mark.parametrize(
    "attribute",
    ["{", "[]", '{"format": 99}', '{"format": 1, "task": "x"}', '{"format": 1}', '{"format": 1, "labels": 3}'],
)
def test_damaged_attribute(tmp_path: Path, checkpoint: Checkpoint, attribute: str) -> None:
    write_h5(checkpoint, tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["npmnv2"] = attribute
    with pytest.raises(WeightsError, match=r"m\.h5"):
        read_h5(tmp_path / "m.h5")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, checkpoint: Checkpoint, monkeypatch) -> None:
    (tmp_path / "m.h5").write_bytes(b"precious")
    broken = Checkpoint({**checkpoint.weights, "x/kernel": np.array(object())}, "classification", checkpoint.config)
    with pytest.raises(TypeError):
        write_h5(broken, tmp_path / "m.h5")
    assert (tmp_path / "m.h5").read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["m.h5"]


def test_a_target_that_cannot_be_written(tmp_path: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(OSError, match="absent"):
        write_h5(checkpoint, tmp_path / "absent" / "m.h5")


# --- the digest -------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """In the numbers of each array; in what the file says beside them, see the next test."""
    write_h5(checkpoint, tmp_path / "m.h5")
    data = bytearray((tmp_path / "m.h5").read_bytes())
    for name, values in list(checkpoint.weights.items())[::20]:
        place = data.index(values.tobytes()) + 4 * (values.size // 2)
        data[place] ^= 1
        (tmp_path / "m.h5").write_bytes(data)
        with pytest.raises(WeightsError, match="was damaged or edited since it was written"):
            read_h5(tmp_path / "m.h5")
        data[place] ^= 1
        assert name
    (tmp_path / "m.h5").write_bytes(data)
    read_h5(tmp_path / "m.h5")


@pytest.mark.parametrize(("old", "new"), [(b"0.001", b"0.002"), (b"slim", b"kera"), (b'"a", "', b'"b", "')])
def test_an_edited_statement_is_noticed(tmp_path: Path, checkpoint: Checkpoint, old: bytes, new: bytes) -> None:
    write_h5(checkpoint, tmp_path / "m.h5")
    data = (tmp_path / "m.h5").read_bytes()
    assert old in data
    (tmp_path / "m.h5").write_bytes(data.replace(old, new))
    with pytest.raises(WeightsError, match="get the file again, or convert its source again"):
        read_h5(tmp_path / "m.h5")


def test_the_digest_is_that_of_names_shapes_and_values(checkpoint: Checkpoint) -> None:
    first = digest({}, checkpoint.weights)
    backwards = dict(reversed(checkpoint.weights.items()))
    assert digest({"digest": "ignored"}, backwards) == first
    assert digest({"x": 1}, checkpoint.weights) != first
    bias = checkpoint.weights["predictions/bias"]
    assert digest({}, {**checkpoint.weights, "predictions/bias": bias.reshape(1, -1)}) != first
    assert digest({}, {**checkpoint.weights, "predictions/bias": bias[::-1]}) != first


@pytest.mark.skipif(sys.platform == "win32", reason="limits on files")
def test_a_limit_on_the_size_of_files_is_an_error_and_no_crash(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """libhdf5 would end the process by SIGABRT or SIGXFSZ."""
    write_h5(checkpoint, tmp_path / "m.h5")
    program = f"""
import resource, signal
from pathlib import Path
from npmnv2.weights.native import digest, read_h5, write_h5
from npmnv2.weights_tools import write_keras, write_npz
path = Path({str(tmp_path)!r})
checkpoint = read_h5(path / "m.h5")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for write in (write_h5, write_keras, write_npz):
    try:
        write(checkpoint, path / "m.h5")
    except OSError:
        continue
    raise SystemExit("no error")
"""
    before = (tmp_path / "m.h5").read_bytes()
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "m.h5").read_bytes() == before
    assert os.listdir(tmp_path) == ["m.h5"]
