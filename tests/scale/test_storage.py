from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from npmnv2 import MissingPackageError
from npmnv2.scale import storage


def test_paths_are_made_absolute_and_urls_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("a/b.jpg") == str(tmp_path / "a/b.jpg")
    assert storage.absolute("s3://bucket/*.jpg") == "s3://bucket/*.jpg"
    assert storage.absolute("zip://*.jpg::a.zip") == f"zip://*.jpg::{tmp_path / 'a.zip'}"
    assert storage.absolute("zip://*.jpg::s3://bucket/a.zip") == "zip://*.jpg::s3://bucket/a.zip"


def test_a_kind_of_url_that_lacks_its_package_names_the_extra() -> None:
    with pytest.raises(MissingPackageError, match=r"oss://.*npmnv2\[scale\]"):
        storage.locate("oss://bucket/a.jpg")


def test_a_local_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fs, path = storage.locate(str(tmp_path / "folder" / "file"))
    storage.write_whole(fs, path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write_whole(fs, path, b"new")
    assert Path(path).read_bytes() == b"old"
    assert os.listdir(tmp_path / "folder") == ["file"]


class Disk(MemoryFileSystem):
    """Neither this machine's nor an object store: files appear while they are written."""

    protocol = "disk"
    cachable = False
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]


def test_elsewhere_a_file_is_moved_into_place(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = Disk()
    moves = []
    monkeypatch.setattr(fs, "mv", lambda source, target: (moves.append((source, target)), Disk.mv(fs, source, target)))
    storage.write_whole(fs, "/folder/file", b"content")
    assert fs.cat_file("/folder/file") == b"content"
    assert fs.ls("/folder", detail=False) == ["/folder/file"]
    ((source, target),) = moves
    assert source.startswith("/folder/.file-")
    assert target == "/folder/file"
