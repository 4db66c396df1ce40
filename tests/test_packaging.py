"""What gets installed, what imports what, and what an import costs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import npmnv2

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = "npmnv2/data/mobilenet_v2_1.0_224_quant.h5"
in_checkout = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs the repository")


@in_checkout
def test_the_list_of_packages_is_complete() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for folder in ("npmnv2", "kernels", "weights_tools"):
        for init in (ROOT / folder).rglob("__init__.py"):
            name = ".".join(init.parent.relative_to(ROOT).parts)
            name = name if folder == "npmnv2" else f"npmnv2.{name}"
            assert f'"{name}",' in text, name


def test_version_is_that_of_the_distribution() -> None:
    assert npmnv2.__version__ == metadata.version("npmnv2")


def test_one_name_is_installed_at_the_top() -> None:
    files = metadata.files("npmnv2") or []
    if any("__editable__" in str(file) for file in files):
        pytest.skip("needs an installed wheel, not an editable installation")
    tops = {file.parts[0] for file in files if not file.parts[0].startswith(("..", "npmnv2-"))}
    assert tops == {"npmnv2"}
    names = {str(file) for file in files}
    assert {
        "npmnv2/py.typed",
        "npmnv2/data/cat.jpg",
        PACKAGED,
        "npmnv2/labels/imagenet.tsv",
        "npmnv2/kernels/conv.py",
        "npmnv2/serve/page/app.js",
    } <= names
    assert not any(name.endswith(".pyi") for name in names)


@pytest.mark.parametrize("name", npmnv2.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(npmnv2, name)
    assert name in dir(npmnv2)
    assert isinstance(value, str) or value.__doc__


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        npmnv2.nothing  # noqa: B018


def _modules_after(code: str) -> set[str]:
    command = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@in_checkout
def test_the_checkout_works_without_an_editable_installation() -> None:
    """After `pip install .`, Python in the repository's root finds the checkout first."""
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if '__editable__' not in repr(f)]; "
        "import npmnv2, npmnv2.kernels, npmnv2.weights_tools, npmnv2.kernels.host, npmnv2.cli.main; "
        "print(npmnv2.kernels.__file__)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert Path(run.stdout.strip()) == ROOT / "kernels" / "__init__.py"


def test_import_is_light() -> None:
    heavy = {"numba", "numpy", "h5py", "PIL", "tensorflow", "torch", "pooch", "requests", "tqdm"}
    assert not heavy & _modules_after("import npmnv2")


def test_models_need_no_optional_package() -> None:
    code = "import npmnv2; npmnv2.load; npmnv2.MobileNetV2ForImageClassification; npmnv2.MobileNetV2ImageProcessor"
    assert not {"numba", "tensorflow", "torch", "pooch", "requests", "sklearn", "scipy"} & _modules_after(code)


@in_checkout
def test_no_large_or_foreign_files() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in listed:
        file = ROOT / name
        if name == PACKAGED:
            continue
        assert not file.exists() or file.stat().st_size < 300_000, name
        assert file.suffix not in {".h5", ".npz", ".tflite", ".safetensors", ".pb"}, name


@in_checkout
def test_every_requirement_states_its_oldest_release() -> None:
    """.ci/oldest installs exactly those, so a requirement without one would be tested with any."""
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.scripts]")[0]
    lines = lines.partition("dependencies = [")[2]
    requirements = [text for text in re.findall(r'"([^"]+)"', lines) if not text.startswith("npmnv2[")]
    assert len(requirements) > 20
    for requirement in requirements:
        assert re.match(r"[\w-]+(\[[\w,]+\])?(>=|==)\d|types-", requirement), requirement
