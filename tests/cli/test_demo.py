"""``npmnv2 demo``."""

from __future__ import annotations

from npmnv2.cli.main import main


def test_demo_names_the_cat(capsys, home, monkeypatch) -> None:
    monkeypatch.setenv("NPMNV2_OFFLINE", "1")
    assert main(["demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cat.jpg according to mobilenet_v2_1.0_224_quant")
    assert "Egyptian cat" in lines[1] or "tabby" in lines[1]


def test_demo_takes_a_photo_of_ones_own(capsys, folder) -> None:
    assert main(["demo", str(folder / "a.png")]) == 0
    assert "a.png according to" in capsys.readouterr().out
    assert main(["demo", str(folder / "absent.png")]) == 1
