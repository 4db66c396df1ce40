"""The gallery shows what its commands print and write."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "docs" / "gallery.md").is_file():
    pytest.skip("needs the repository", allow_module_level=True)


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.setenv("NPMNV2_OFFLINE", "1")
    monkeypatch.delitem(sys.modules, "gallery", raising=False)
    return __import__("gallery")


def test_commands_print_what_the_page_says(gallery: ModuleType, tmp_path: Path) -> None:
    """Those that need nothing but the package, and whose output names no backend."""
    (tmp_path / "cat.jpg").write_bytes((ROOT / "npmnv2" / "data" / "cat.jpg").read_bytes())
    page = gallery.PAGE.read_text(encoding="utf-8")
    commands = [match for match in gallery.COMMAND.finditer(page) if not re.search(" -m | --html ", match["command"])]
    assert len(commands) >= 3
    for match in commands:
        assert gallery.block(match["command"], tmp_path) == match[0], "run python tools/gallery.py"
    assert (tmp_path / "where.jpg").is_file()


def test_every_picture_is_on_the_page_and_small(gallery: ModuleType) -> None:
    shown = gallery.PICTURE.findall(gallery.PAGE.read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(file.stem for file in gallery.PICTURES.iterdir())
    assert all(file.stat().st_size < 100_000 for file in gallery.PICTURES.iterdir())


def test_long_output_is_cut(gallery: ModuleType) -> None:
    assert gallery.shortened("a  \nb\n") == "a\nb\n"
    assert gallery.shortened("line\n" * 99) == "line\n" * (gallery.MOST_LINES - 1) + "…\n"


def test_pictures_are_made_small(gallery: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(gallery, "PICTURES", tmp_path / "kept")
    gallery.PICTURES.mkdir()
    Image.new("RGBA", (2000, 500)).save(tmp_path / "wide.png")
    gallery.keep(tmp_path, "wide")
    with Image.open(tmp_path / "kept" / "wide.webp") as picture:
        assert picture.size == (gallery.LONGEST_SIDE, gallery.LONGEST_SIDE // 4)
