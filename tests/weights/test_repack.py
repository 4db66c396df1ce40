"""HDF5 in layouts of other programs, rewritten by the library in a child process."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from npmnv2 import WeightsError
from npmnv2.weights import repack as module
from npmnv2.weights.hdf5 import File
from npmnv2.weights.native import read_h5, write_h5
from npmnv2.weights.repack import repack

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)

LAYOUTS = [
    ({"libver": "latest"}, {}),
    ({"libver": "v108"}, {}),
    ({"track_order": True}, {}),
    ({"userblock_size": 512}, {}),  # as MATLAB writes
    ({}, {"chunks": (2, 2)}),
    ({}, {"compression": "gzip", "shuffle": True, "fletcher32": True}),  # as PyTables writes
    ({"libver": "latest"}, {"compression": "gzip", "chunks": True}),
]


@pytest.mark.parametrize(("options", "settings"), LAYOUTS, ids=str)
def test_layouts_of_other_programs(tmp_path: Path, options, settings) -> None:
    with h5py.File(tmp_path / "file.h5", "w", **options) as file:
        file.create_dataset("a/b/kernel", data=VALUES, **settings)
        file["a"].attrs["name"] = "Größe" * 100
        file.attrs["number"] = 7
    file = File.open(tmp_path / "file.h5")
    (array,) = file.arrays()
    assert (array.path, array.shape) == ("a/b/kernel", (3, 4))
    assert np.array_equal(array.values(), VALUES)
    assert file.text("a", "name") == "Größe" * 100


def test_many_members_and_attributes(tmp_path: Path) -> None:
    """Groups beyond a handful of members become fractal heaps and B-trees of the second version."""
    with h5py.File(tmp_path / "file.h5", "w", libver="latest") as file:
        for number in range(300):
            file[f"layer{number}/kernel"] = np.float32([number])
            file.attrs[f"attribute{number}"] = "text"
    arrays = {array.path: array.values()[0] for array in File.open(tmp_path / "file.h5").arrays()}
    assert arrays == {f"layer{number}/kernel": number for number in range(300)}


@pytest.mark.parametrize(("options", "settings"), LAYOUTS[:2] + LAYOUTS[5:7], ids=str)
def test_weights_in_other_layouts(tmp_path: Path, checkpoint, options, settings) -> None:
    write_h5(checkpoint, tmp_path / "native.h5")
    with h5py.File(tmp_path / "native.h5") as source, h5py.File(tmp_path / "other.h5", "w", **options) as target:
        target.attrs["npmnv2"] = source.attrs["npmnv2"]
        for name in checkpoint.weights:
            target.create_dataset(name, data=source[f"{name.rpartition('/')[0]}/{name}"], **settings)
    found = read_h5(tmp_path / "other.h5")
    assert all(np.array_equal(found.weights[name], value) for name, value in checkpoint.weights.items())
    assert found.config == checkpoint.config


def test_nothing_leads_out_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(VALUES.tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kernel"] = VALUES
    with h5py.File(tmp_path / "file.h5", "w", libver="latest") as file:
        file["soft"] = h5py.SoftLink("/group/kernel")
        file["external"] = h5py.ExternalLink("other.h5", "kernel")
        file["group/kernel"] = VALUES
        file["group/loop"] = file["/"]
    assert [array.path for array in File.open(tmp_path / "file.h5").arrays()] == ["group/kernel"]
    with h5py.File(tmp_path / "file.h5", "a", libver="latest") as file:
        file.create_dataset("data", VALUES.shape, "f4", external=[(str(tmp_path / "secret"), 0, VALUES.nbytes)])
    with pytest.raises(WeightsError, match="/data points to another file"):
        File.open(tmp_path / "file.h5")


def test_a_little_file_of_many_zeros(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w", libver="latest") as file:
        file.create_dataset("kernel", (1 << 16, 1 << 12), "f4", chunks=(1 << 12, 1 << 12), compression="gzip")
    with pytest.raises(WeightsError, match="unpacks to more bytes than a file of its size may"):
        File.open(tmp_path / "file.h5")


def test_nested_groups_have_a_limit(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w", libver="latest") as file:
        file["/".join("g" * 100) + "/kernel"] = VALUES
    with pytest.raises(WeightsError, match="nested deeper than 32"):
        File.open(tmp_path / "file.h5")


def test_a_truncated_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w", libver="latest") as file:
        file.create_dataset("kernel", data=VALUES, chunks=(2, 2))
    data = (tmp_path / "file.h5").read_bytes()
    (tmp_path / "file.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(
        WeightsError, match=r"file\.h5 holds HDF5's newer file layout .* the HDF5 library says: .*truncated"
    ):
        File.open(tmp_path / "file.h5")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"failed on it \(signal 11\)"),
        ("import signal; signal.setitimer(signal.ITIMER_PROF, 0.01)\nwhile True: pass", "it took too long"),
        ("raise SystemExit(9)", "exit code 9"),
    ],
)
def test_a_crash_of_the_library_is_an_error(tmp_path: Path, monkeypatch, program: str, words: str) -> None:
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "file.h5").write_bytes(b"")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "program.py"))
    with pytest.raises(ValueError, match=words):
        repack(tmp_path / "file.h5", 1000)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as on Linux")
def test_the_child_has_limits(tmp_path: Path, monkeypatch) -> None:
    """Its limits hold when the library runs: a program that opens a file for it shows them."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    shown = "import resource as r; print([r.getrlimit(n)[1] for n in (r.RLIMIT_FSIZE, r.RLIMIT_NPROC, r.RLIMIT_CORE)])"
    program = source.replace("    image = io.BytesIO()\n", f"    {shown}; sys.exit(0)\n")
    assert program != source
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "file.h5").write_bytes(b"")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "program.py"))
    assert repack(tmp_path / "file.h5", 1000) == b"[0, 0, 0]\n"


def test_limits_are_not_needed(tmp_path: Path, monkeypatch) -> None:
    """Windows has none: the parent's timeout remains."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    program = source.replace("    import signal\n", "    import signal\n\n    sys.modules['resource'] = None\n")
    assert program != source
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    with h5py.File(tmp_path / "file.h5", "w", libver="latest") as file:
        file["kernel"] = VALUES
    monkeypatch.setattr(module, "__file__", str(tmp_path / "program.py"))
    (array,) = File.open(tmp_path / "file.h5").arrays()
    assert np.array_equal(array.values(), VALUES)


@pytest.mark.parametrize(("name", "value"), [("frozen", True), ("executable", "")])
def test_applications_without_an_interpreter(tmp_path: Path, monkeypatch, name: str, value: object) -> None:
    monkeypatch.setattr(sys, name, value, raising=False)
    with pytest.raises(ValueError, match="no Python interpreter"):
        repack(tmp_path / "file.h5", 1000)
