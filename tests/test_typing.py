"""What a user's type checker sees: mypy in strict mode on right and wrong uses, and on the snippets of all pages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import get_args

import pytest

from npmnv2 import loading
from npmnv2.hub.registry import ENTRIES

ROOT = Path(__file__).resolve().parents[1]
USES = Path(__file__).with_name("typed_uses.py")
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if page.is_file()]

# What the snippets of a page take for granted.
IMPORTS = """\
import numpy as np
import npmnv2
from npmnv2 import *
from numpy.typing import NDArray
"""
GIVEN = {
    "model": "MobileNetV2ForImageClassification",
    "paths": "list[str]",
    "photo": "str",
    "my_stem": "NDArray[np.float32]",
    "my_expansion": "NDArray[np.float32]",
}


def preamble(page: Path, code: str) -> str:
    """Imports, and declarations of the names that the code uses without assigning them."""
    given = {**GIVEN, "model": "MobileNetV2ForSemanticSegmentation"} if page.stem == "segmentation" else GIVEN
    absent = {name: kind for name, kind in given.items() if not re.search(rf"^{name} = ", code, re.MULTILINE)}
    return IMPORTS + "".join(f"{name}: {kind}\n" for name, kind in absent.items())


def snippets() -> Iterator[tuple[str, str]]:
    """Name and code of every section of the pages that has Python in it."""
    for page in PAGES:
        for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            blocks = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
            if blocks:
                title = re.sub(r"\W+", "_", section.splitlines()[0].lower()).strip("_")
                code = "\n".join(blocks)
                yield f"{page.stem.lower()}__{title}", preamble(page, code) + code


SNIPPETS = dict(snippets())


@pytest.fixture(scope="module")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy says of everything at once, in strict mode, of a user's project."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("project")
    for name, code in SNIPPETS.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    (folder / USES.name).write_text(USES.read_text(encoding="utf-8"), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "MYPYPATH"}
    if any("__editable__" in str(file) for file in metadata.files("npmnv2") or ()):
        environment["MYPYPATH"] = str(ROOT)  # mypy does not follow the finders of editable installations
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--follow-imports=silent",
        "--no-pretty",
        ".",
    ]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    return run.stdout


def complaints(mypy: str, file: str) -> list[str]:
    return [line for line in mypy.splitlines() if line.startswith(f"{file}:")]


def test_right_uses_pass_and_wrong_ones_do_not(mypy: str) -> None:
    assert complaints(mypy, USES.name) == []


@pytest.mark.skipif(not SNIPPETS, reason="needs the repository")
@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets_of_the_pages(mypy: str, name: str) -> None:
    assert complaints(mypy, f"{name}.py") == []


def test_mypy_finds_what_is_wrong(mypy: str) -> None:
    """The checks above would pass, too, if mypy had found nothing of the package."""
    assert "import-not-found" not in mypy
    assert "import-untyped" not in mypy
    assert len(re.findall(r"# type: ignore\[", USES.read_text(encoding="utf-8"))) > 15


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("classification", loading.ClassifierName),
        ("segmentation", loading.SegmenterName),
        ("features", loading.BackboneName),
    ],
)
def test_names_that_load_knows_are_those_of_the_registry(task: str, names: object) -> None:
    assert set(get_args(names)) == {entry.name for entry in ENTRIES if entry.task == task}
