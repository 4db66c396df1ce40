"""Limits, budgets, and bounded reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npmnv2 import WeightsError
from npmnv2.weights import bounds
from npmnv2.weights.bounds import MAX_RANK, Budget, array_from_bytes, checked_shape, read_buffer, read_bytes

PATH = Path("file")


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_a_budget_grows_with_the_file(size: int) -> None:
    budget = Budget(PATH, size)
    steps, memory = 100_000 + size // 8, (64 << 20) + 4 * size
    budget.step(steps)
    budget.take(memory)
    assert budget.bytes_left == 0
    with pytest.raises(WeightsError, match=f"file: .*more work to read than a file of {size:,} bytes may"):
        budget.step()
    with pytest.raises(WeightsError, match="more memory"):
        budget.take(1)


@pytest.mark.parametrize("shape", [(1,) * (MAX_RANK + 1), (-1,), ((1 << 30) + 1,), (0, 2**63 - 1), (0, *[1 << 20] * 4)])
def test_impossible_shapes(shape) -> None:
    with pytest.raises(WeightsError, match="impossible shape"):
        checked_shape(PATH, shape, "x")
    for possible in ((1,) * MAX_RANK, (), (0,), (0, 1 << 30), (1 << 15, 1 << 15)):
        assert checked_shape(PATH, possible, "x") == possible


def test_arrays_have_exactly_their_bytes() -> None:
    data = np.arange(6, dtype="<f4").tobytes()
    assert np.array_equal(array_from_bytes(PATH, data, "<f4", (2, 3), "x"), [[0, 1, 2], [3, 4, 5]])
    for shape in ((2, 2), (7,), (0, 6)):
        with pytest.raises(WeightsError, match="24 bytes of data for shape"):
            array_from_bytes(PATH, data, "<f4", shape, "x")


def test_reading_whole_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123456")
    assert read_bytes(tmp_path / "file", 6) == b"123456"
    with pytest.raises(WeightsError, match="6 bytes, more than the 5"):
        read_bytes(tmp_path / "file", 5)
    with pytest.raises(WeightsError, match="not a regular file"):
        read_bytes(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "absent")


def test_memory_for_arrays_belongs_to_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"123456")
    buffer = read_buffer(tmp_path / "file")
    assert bytes(buffer) == b"123456"
    buffer[0] = 0
    assert (tmp_path / "file").read_bytes() == b"123456"
    (tmp_path / "empty").touch()
    assert bytes(read_buffer(tmp_path / "empty")) == b""
    monkeypatch.setattr(bounds, "MAX_FILE_BYTES", 5)
    with pytest.raises(WeightsError, match="6 bytes, more than the 5"):
        read_buffer(tmp_path / "file")
