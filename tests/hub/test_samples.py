"""The photo for a first detection."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from npmnv2 import OfflineError
from npmnv2.hub import samples

MEMBER = "matplotlib/mpl-data/sample_data/grace_hopper.jpg"


def test_an_installed_matplotlib_has_it(home: Path) -> None:
    pytest.importorskip("matplotlib")
    with Image.open(samples.portrait()) as photo:
        assert photo.size == (512, 600)
    assert not home.exists()


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No Matplotlib, and an index that has it; the requirements that were downloaded."""
    downloaded = []

    def pip_download(requirement: str, directory: Path) -> Path:
        downloaded.append(requirement)
        with zipfile.ZipFile(directory / "matplotlib-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(MEMBER, b"a photo")
        return directory / "matplotlib-1-py3-none-any.whl"

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(samples, "_installed", lambda: None)
    monkeypatch.setattr(samples, "pip_download", pip_download)
    return downloaded


def test_the_wheel_is_downloaded_once(home: Path, without_matplotlib: list[str]) -> None:
    for _ in range(2):
        assert samples.portrait().read_bytes() == b"a photo"
    assert without_matplotlib == ["matplotlib"]
    assert [file.name for file in (home / "photos").iterdir() if file.suffix != ".lock"] == ["grace_hopper.jpg"]


def test_offline(home: Path, without_matplotlib: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMNV2_OFFLINE", "1")
    with pytest.raises(OfflineError, match="NPMNV2_OFFLINE forbids downloading a photo: pass one of yours"):
        samples.portrait()
    assert without_matplotlib == []
