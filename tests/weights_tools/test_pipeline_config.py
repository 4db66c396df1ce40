"""``pipeline.config`` beside a detector's checkpoint: protocol buffers as text, and what they say of its use."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from detector_graphs import scores, suppression
from hypothesis import given, settings
from hypothesis import strategies as st
from npmnv2.weights_tools.pipeline_config import parse
from weight_files import field, random_checkpoint, slim_variables, write_bundle

from npmnv2 import WeightsError
from npmnv2.network.detection import AnchorOptions, NonMaxSuppression, SSDConfig
from npmnv2.weights_tools import read

TRAINING = """
# Made for this test.
model {
  ssd {
    num_classes: 90
    image_resizer { fixed_shape_resizer { height: 96 width: 128 } }
    feature_extractor { type: "ssd_mobilenet_v2" conv_hyperparams { activation: RELU_6 } }
    box_coder { faster_rcnn_box_coder { y_scale: 8 x_scale: 9.5 } }
    anchor_generator {
      ssd_anchor_generator { num_layers: 6 min_scale: 0.15 max_scale: 0.9 aspect_ratios: [1.0, 2.0, 0.5, 3.0, 0.3333] }
    }
    post_processing {
      batch_non_max_suppression { score_threshold: 0.25 iou_threshold: .55 max_total_detections: 50 }
      score_converter: SOFTMAX
    }
  }
}
train_config: < batch_size: 24; fine_tune_checkpoint: 'a/model.ckpt' note: "} \\" {" >
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """The folder of a checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_bundle(folder / "model.ckpt", slim_variables(random_checkpoint("detection")))
    return folder


@pytest.fixture
def beside(tmp_path: Path, checkpoint: Path):
    """A checkpoint, read beside a file of such a text."""
    prefix = shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True) / "model.ckpt"

    def read_beside(text: str):
        (tmp_path / "pipeline.config").write_text(text, encoding="utf-8")
        return read(prefix)

    return read_beside


def model(*fields: str) -> str:
    return f"model {{ ssd {{ {' '.join(fields)} }} }}"


def test_the_settings_of_a_training(beside) -> None:
    found = beside(TRAINING)
    assert found.config.ssd == SSDConfig(
        anchors=AnchorOptions(0.15, 0.9),
        box_scales=(8.0, 9.5, 5.0, 5.0),
        score_converter="softmax",
        nms=NonMaxSuppression(0.25, 0.55, max_detections=50),
    )
    assert (found.config.image_size, found.preprocessing["size"]) == (128, [96, 128])


@pytest.mark.parametrize(
    "text", ["", "model { }", "model { faster_rcnn { num_classes: 3 } }", "train_config { steps: 1 }"]
)
def test_what_it_does_not_state_has_the_defaults(beside, text) -> None:
    found = beside(text)
    assert found.config.ssd == SSDConfig()
    assert found.preprocessing == {"preset": "ssd", "size": 300}


def test_the_defaults_of_its_own_format(beside) -> None:
    """Those of the Object Detection API's messages, which are not everywhere those of the published training."""
    found = beside(model("post_processing { }", "box_coder { faster_rcnn_box_coder { } }")).config.ssd
    assert (found.score_converter, found.nms.score_threshold) == ("identity", 0)
    assert found.box_scales == (10.0, 10.0, 5.0, 5.0)


def test_anchors_that_the_weights_have_no_room_for(beside) -> None:
    with pytest.raises(WeightsError, match=r"must be as many in each place as the predictors have room for"):
        beside(model("anchor_generator { ssd_anchor_generator { aspect_ratios: 1 } }"))


@pytest.mark.parametrize(("stated", "agnostic"), [("true", True), ("false", False), ("1", True), ("0", False)])
def test_flags(beside, stated: str, agnostic: bool) -> None:
    nms = f"batch_non_max_suppression {{ use_class_agnostic_nms: {stated} }}"
    found = beside(model(f"post_processing {{ {nms} score_converter: SIGMOID }}")).config.ssd
    assert (found.nms.suppression == "agnostic") == agnostic


def test_what_the_graph_shows_counts_more(beside, tmp_path: Path) -> None:
    graph = b"".join([*scores("Sigmoid"), *suppression(2, 2, iou=0.45, score=0.3)])
    (tmp_path / "model.ckpt.meta").write_bytes(field(1, b"") + field(2, graph))
    found = beside(TRAINING).config.ssd
    assert (found.score_converter, found.nms.iou_threshold) == ("sigmoid", 0.45)
    assert found.box_scales == (8.0, 9.5, 5.0, 5.0), "the graph does not show it"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("post_processing { logit_scale: 2 }", "divides its logits by 2, which is not supported"),
        ("post_processing { score_converter: ODD }", "impossible settings: score_converter"),
        ("anchor_generator { grid_anchor_generator { } }", "states grid_anchor_generator, must be ssd_"),
        ("anchor_generator { ssd_anchor_generator { base_anchor_width: 2 } }", "base_anchor_width 2, which is not"),
        ("anchor_generator { ssd_anchor_generator { min_scale: small } }", "impossible settings: could not convert"),
        ("box_coder { mean_stddev_box_coder { } }", "states mean_stddev_box_coder, must be faster_rcnn_box_coder"),
        ("box_coder { faster_rcnn_box_coder { y_scale: 0 } }", "impossible settings"),
        ("image_resizer { fixed_shape_resizer { height: inf width: 3 } }", "impossible settings"),
        ("image_resizer { fixed_shape_resizer { height { } } }", "impossible settings"),
        ("a: 1 }", "its braces do not match"),
        ("a {", "its braces do not match"),
        ("a: %", "not a protocol buffer as text; see line 1"),
        ("a {" * 40, "nested more than 32 deep"),
    ],
)  # fmt: skip
def test_what_is_refused(beside, field: str, message: str) -> None:
    with pytest.raises(WeightsError, match=rf"pipeline\.config: .*{message}"):
        beside(model(field))


def test_a_file_that_is_not_text_or_too_large(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(WeightsError, match="is not text"):
        parse(tmp_path / "a")
    (tmp_path / "a").write_bytes(b" " * (1 << 20 | 1))
    with pytest.raises(WeightsError, match="at most 1048576 bytes"):
        parse(tmp_path / "a")


def test_fields_and_lists(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a: 1 a: 2 b < c: 'x' > b { } d: [1, -2.5e-3] e [ { f: 1 }, { } ]")
    found = parse(tmp_path / "a")
    assert (found["a"], found["b"], found["d"]) == (["1", "2"], [{"c": ["'x'"]}, {}], ["1", "-2.5e-3"])
    assert found["e"] == [{"f": ["1"]}, {}]


@settings(max_examples=60)
@given(st.text(alphabet="ab1.{}<>[]:,;# \n\"'\\%", max_size=40))
def test_any_text_is_read_or_refused(tmp_path_factory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "pipeline.config"
    file.write_text(text, encoding="utf-8")
    with suppress(WeightsError):
        assert isinstance(parse(file), dict)
