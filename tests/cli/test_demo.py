"""``npmnv2 demo``."""

from __future__ import annotations

from pathlib import Path

from npmnv2.cli.main import main


def test_demo_takes_a_photo_of_ones_own(capsys, home, monkeypatch, model, folder) -> None:
    monkeypatch.setattr("npmnv2.cli.demo.fetch", lambda name: Path(model))
    assert main(["demo", str(folder / "a.png")]) == 0
    assert "a.png according to m.h5" in capsys.readouterr().out
    assert main(["demo"]) == 0
    assert "cat.jpg" in capsys.readouterr().out
    assert main(["demo", str(folder / "absent.png")]) == 1


def test_demo_without_the_internet_uses_the_package_index(capsys, monkeypatch, model) -> None:
    from npmnv2 import OfflineError

    def fetch(name: str) -> Path:
        if name.startswith("mobilenet"):
            raise OfflineError("no network")
        return Path(model)

    monkeypatch.setattr("npmnv2.cli.demo.fetch", fetch)
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert "19 dog breeds and nothing else" in out
    assert "out of reach" in err
