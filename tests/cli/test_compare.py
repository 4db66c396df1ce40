"""``npmnv2 compare``."""

from __future__ import annotations

import json
import re

import pytest

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification
from npmnv2.cli.main import main
from npmnv2.weights.native import write_h5


def test_compare(model, folder, capsys, tmp_path) -> None:
    photo = str(folder / "a.png")
    assert main(["compare", f"{model}@float64", photo]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[4].startswith("Conv1")
    assert lines[-3].startswith("predictions")
    assert lines[-1].startswith("all layers agree within")
    other = MobileNetV2ForImageClassification.from_pretrained(model)
    other.weights["block_7_expand_BN/gamma"] = other.weights["block_7_expand_BN/gamma"] * 1.5
    write_h5(other.to_checkpoint(), tmp_path / "other.h5")
    assert main(["compare", model, str(tmp_path / "other.h5"), photo]) == 1
    assert "block_7_expand is the first layer with a known fault: another batch norm" in capsys.readouterr().out


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> dict[int, str]:
    """One network with ImageNet's background and without."""
    from npmnv2.weights_tools import with_classes

    folder = tmp_path_factory.mktemp("classes")
    config = MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=1001)
    checkpoint = MobileNetV2ForImageClassification(config, seed=0, backend="numpy").to_checkpoint()
    for count in (1001, 1000):
        write_h5(with_classes(checkpoint, count), folder / f"{count}.h5")
    return {count: str(folder / f"{count}.h5") for count in (1001, 1000)}


@pytest.mark.parametrize("order", [(1001, 1000), (1000, 1001)])
def test_the_background_is_left_out_where_only_one_has_it(classes, folder, capsys, order):
    first, second = (classes[count] for count in order)
    assert main(["compare", first, second, str(folder / "a.png")]) == 0
    *_, last, _, verdict = capsys.readouterr().out.splitlines()
    assert last.split()[0] == "predictions"
    assert re.search("all layers (are equal, bit for bit|agree within)", verdict)  # NumPy may round differently


def test_columns_are_sane_in_float64(model, folder, capsys):
    assert main(["compare", f"{model}@float64", f"{model}@numpy", str(folder / "a.png")]) == 0
    _, _, _, head, *lines, _, _ = capsys.readouterr().out.splitlines()
    for line in lines:
        _, largest, mean, relative, median, most, angle, snr, differing = line.split()
        assert float(largest) >= float(mean) >= 0
        assert float(relative) < 1e-4
        assert 0 <= float(median) <= float(most) < 1e6
        assert 0 <= float(angle) < 1e-6
        assert float(snr) > 90
        assert 0 <= float(differing.rstrip("%")) <= 100
        assert len(line) == len(head)


def test_models_of_different_widths_compare_nothing(model, tmp_path, folder, capsys):
    config = MobileNetV2Config(depth_multiplier=1.4, image_size=64, num_labels=2)
    write_h5(MobileNetV2ForImageClassification(config, seed=0, backend="numpy").to_checkpoint(), tmp_path / "wide.h5")
    assert main(["compare", model, str(tmp_path / "wide.h5"), str(folder / "a.png")]) == 1
    assert re.search("not compared: Conv1, .* more", capsys.readouterr().out)


def test_json_and_diagnosis(model, tmp_path, folder, capsys):
    other = MobileNetV2ForImageClassification.from_pretrained(model, backend="numpy")
    kernel = other.weights["block_4_depthwise/kernel"]
    other.weights["block_4_depthwise/kernel"] = kernel[::-1, ::-1].copy()
    write_h5(other.to_checkpoint(), tmp_path / "flipped.h5")
    command = ["compare", model, str(tmp_path / "flipped.h5"), str(folder / "a.png"), "--json"]
    assert main(command) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(f["fault"], f["layer"]) for f in found["findings"]] == [("kernel_flipped", "block_4_depthwise")]
    assert main([*command, "--no-diagnosis", "--tolerance", "10"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []


def test_unknown_options_of_a_side(model, folder, capsys):
    assert main(["compare", f"{model}@float16", str(folder / "a.png")]) == 1
    assert "must be at most one of each" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--litert"], "--litert needs --steps"),
        (["--steps", "--json"], "--json and --html must be left out with --steps"),
        (["--html", "absent/report.html"], "must be in a folder that exists"),
        (["--tolerance", "-1"], "tolerance (=-1.0) must be a number of at least 0"),
    ],
)
def test_what_would_be_ignored_or_fail_in_the_end_is_refused(model, folder, capsys, options, message):
    assert main(["compare", model, str(folder / "a.png"), *options]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_page(model, folder, capsys):
    page = folder / "report.html"
    assert main(["compare", f"{model}@float64", model, str(folder / "a.png"), "--html", str(page)]) == 0
    captured = capsys.readouterr()
    assert "all layers agree" in captured.out
    assert f"wrote {page}" in captured.err
    text = page.read_text(encoding="utf-8")
    assert "✓ agree" in text
    assert text.count("<tr id=") > 60
    assert "data:image/jpeg" in text
