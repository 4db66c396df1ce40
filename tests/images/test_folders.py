"""Which files of a folder are photos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from npmnv2.images.folders import SUFFIXES, photos_in


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", ".hidden.png", "notes.txt", "jpg", "in/d.webp", "in/.c/e.png", ".cache/f.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "broken.jpg").symlink_to("absent")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    return tmp_path


def names(tree: Path, recursive: bool) -> list[str]:
    return [path.relative_to(tree).as_posix() for path in photos_in(tree, recursive)]


def test_a_folder_alone_and_with_those_inside(tree: Path) -> None:
    assert names(tree, recursive=False) == ["a.png", "b.JPG"]
    assert names(tree, recursive=True) == ["a.png", "b.JPG", "in/d.webp"]


@pytest.mark.parametrize("recursive", [False, True])
def test_a_folder_that_cannot_be_read_is_said(tree: Path, monkeypatch, caplog, recursive: bool) -> None:
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "in":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # a test as root may read everything
    assert names(tree, recursive) == ["a.png", "b.JPG"]
    assert caplog.messages == ([f"a folder was left out: {tree / 'in'}: Permission denied"] if recursive else [])


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_in_any_case(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"photo{suffix.upper()}").touch()
    assert names(tmp_path, recursive=False) == [f"photo{suffix.upper()}"]
