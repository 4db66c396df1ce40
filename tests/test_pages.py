"""What the documentation shows works: its Python blocks run, its commands parse, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
from importlib import resources
from pathlib import Path

import pytest
import snippets
from weight_files import folded, random_checkpoint, slim_variables, tflite_model, write_bundle

from npmnv2 import (
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2ForObjectDetection,
    MobileNetV2ForSemanticSegmentation,
    load,
)
from npmnv2.cli.main import build_parser
from npmnv2.hub.registry import entry
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.labels import labels_for, segmentation_labels
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.native import write_h5
from npmnv2.weights_tools import write

if not (snippets.ROOT / "docs").is_dir():
    pytest.skip("needs the repository", allow_module_level=True)

ALL_PAGES = sorted(
    str(file.relative_to(snippets.ROOT).as_posix())
    for pattern in ("*.md", ".github/*.md", "docs/**/*.md", "kernels/*.md")
    for file in snippets.ROOT.glob(pattern)
)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages name, and a cache in which seeded networks stand for published weights."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("cat.jpg", "photo.jpg"):
        shutil.copy(str(resources.files("npmnv2") / "data" / "cat.jpg"), folder / name)
    (folder / "photos").mkdir()
    shutil.copy(folder / "cat.jpg", folder / "photos")
    voc = dict(enumerate(segmentation_labels("voc")))
    small = MobileNetV2Config(depth_multiplier=0.35, image_size=96, num_labels=3)
    _classifier(small).save_pretrained(folder / "my_classifier")
    _segmenter(small.replace(output_stride=16, id2label=voc)).save_pretrained(folder / "my_segmenter")
    for name, source, classes in (
        ("mobilenet_v2_1.0_224", "tensorflow", 1001),
        ("mobilenet_v2_1.0_224", "keras", 1000),
        ("mobilenet_v2_0.35_96", "tensorflow", 1001),
    ):
        multiplier, size = name.split("_")[-2:]
        config = MobileNetV2Config(depth_multiplier=float(multiplier), image_size=int(size), num_labels=classes)
        _keep(_classifier(config).to_checkpoint(), folder / "home" / entry(name, source).file)
    name = "deeplabv3_mnv2_pascal_train_aug"
    config = MobileNetV2Config(image_size=513, output_stride=16, id2label=voc)
    _keep(_segmenter(config).to_checkpoint(), folder / "home" / entry(name).file)
    config = MobileNetV2Config(image_size=300, id2label=dict(enumerate(labels_for(91, "detection"))))
    _keep(_detector(config).to_checkpoint(), folder / "home" / entry("ssdlite_mobilenet_v2_coco").file)
    _write_for_other_runtimes(folder, small, voc)
    write_bundle(folder / "model.ckpt", slim_variables(random_checkpoint(num_labels=2)))
    pytest.importorskip("ai_edge_litert", reason="TFLite files are written with LiteRT's schema")
    (folder / "deeplabv3.tflite").write_bytes(tflite_model(folded(random_checkpoint())))
    return folder


def _classifier(config: MobileNetV2Config) -> MobileNetV2ForImageClassification:
    weights = unit_gain_weights(MobileNetV2ForImageClassification.build(config))
    return MobileNetV2ForImageClassification(config, weights, backend="numpy")


def _segmenter(config: MobileNetV2Config) -> MobileNetV2ForSemanticSegmentation:
    weights = unit_gain_weights(MobileNetV2ForSemanticSegmentation.build(config))
    return MobileNetV2ForSemanticSegmentation(config, weights, backend="numpy")


def _detector(config: MobileNetV2Config) -> MobileNetV2ForObjectDetection:
    weights = unit_gain_weights(MobileNetV2ForObjectDetection.build(config))
    return MobileNetV2ForObjectDetection(config, weights, backend="numpy")


def _write_for_other_runtimes(folder: Path, small: MobileNetV2Config, voc: dict[int, str]) -> None:
    """The files of the porting guides: what Keras has downloaded, directories of transformers', TFLite and ONNX."""
    ported = folder / "keras" / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
    ported.parent.mkdir(parents=True)
    shutil.copy(folder / "home" / entry("mobilenet_v2_1.0_224", "keras").file, ported)
    write(_classifier(small).to_checkpoint(), folder / "my_finetuned", "transformers")
    segmenter = _segmenter(small.replace(output_stride=16, id2label=voc))
    write(segmenter.to_checkpoint(), folder / "my_voc", "transformers")
    write(load().to_checkpoint(), folder / "quantized.tflite", "tflite")
    network = _classifier(small.replace(image_size=224)).to_checkpoint()
    for name, kind in (("network.h5", "native"), ("model.h5", "native"), ("network.onnx", "onnx")):
        write(network, folder / name, kind)


def _keep(checkpoint: Checkpoint, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_h5(checkpoint, file)


# Pages that run a different library beside ours, and pages that take long.
FOREIGN = {
    "docs/porting_keras.md": ("keras",),
    "docs/porting_transformers.md": ("torch", "transformers"),
    "docs/porting_tflite.md": ("ai_edge_litert",),
    "docs/porting_onnx.md": ("onnx", "onnxruntime"),
}
SLOW = ("docs/porting.md", "docs/porting_keras.md", "docs/porting_transformers.md")


@pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve_all_tensors`")
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else []) for page in snippets.pages()]
)
def test_python_blocks_run(page: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in FOREIGN.get(page, ()):
        pytest.importorskip(module)
    if page == "docs/porting_keras.md":
        # Where Keras keeps what it has downloaded; its variable KERAS_HOME counts at import only.
        monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(world / "keras"))
    work = Path(shutil.copytree(world, tmp_path / "world", ignore=shutil.ignore_patterns("home", "keras")))
    monkeypatch.chdir(work)
    monkeypatch.setenv("NPMNV2_HOME", str(world / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(world / "cache"))
    snippets.run(page)


def test_what_a_page_says_is_compared_with_what_its_code_prints() -> None:
    outputs = [snippet.output for page in snippets.pages() for snippet in snippets.snippets(page)]
    assert any("Egyptian cat" in output for output in outputs)
    assert snippets.is_output("a\n…\nz\n", "a\nb\nc\nz\n")
    assert snippets.is_output("", "anything")
    assert not snippets.is_output("1.5 ms (a)\n", "1x5 ms a\n")


@pytest.mark.parametrize("page", ALL_PAGES)
def test_commands_parse(page: str) -> None:
    text = (snippets.ROOT / page).read_text(encoding="utf-8")
    for block in re.findall(r"^```(?:bash|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["npmnv2"]:
                build_parser().parse_args(words[1:])


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_lead_somewhere(page: str) -> None:
    file = snippets.ROOT / page
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", file.read_text(encoding="utf-8")):
        assert (file.parent / target).exists(), f"{page}: {target}"


def anchors(file: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_lead_to_headings(page: str) -> None:
    file = snippets.ROOT / page
    for target, anchor in re.findall(
        r"\]\((?!https?:|mailto:)([^)#\s]*)#([^)\s]+)\)", file.read_text(encoding="utf-8")
    ):
        assert anchor in anchors(file.parent / target if target else file), f"{page}: {target}#{anchor}"


@pytest.mark.parametrize("page", [page for page in ALL_PAGES if page != "CHANGELOG.md"])
def test_files_that_are_named_exist(page: str) -> None:
    """Paths in code style, from the root of the repository: `kernels/add.py`. What is built need not be there yet."""
    built = (snippets.ROOT / ".gitignore").read_text(encoding="utf-8").split()
    text = (snippets.ROOT / page).read_text(encoding="utf-8")
    folders = "npmnv2|kernels|weights_tools|tests|benchmarks|docs|tools"
    for name in re.findall(rf"`((?:{folders})/[\w./]*)`", text):
        assert name in built or (snippets.ROOT / name).exists(), name
