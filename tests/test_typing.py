"""What a user's type checker sees: mypy in strict mode on right and wrong uses, and on the snippets of all pages."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import get_args

import pytest
import snippets

from npmnv2 import loading
from npmnv2.hub.registry import ENTRIES

USES = Path(__file__).with_name("typed_uses.py")

IMPORTS = "import npmnv2; from npmnv2 import *"


def sections() -> Iterator[tuple[str, str]]:
    """Name and code of every section of the pages that has Python in it; a section starts anew, as a reader does.

    The guides to porting are read from the beginning: each is one section.
    """
    for page in snippets.pages():
        lines = (snippets.ROOT / page).read_text(encoding="utf-8").splitlines()
        heads = [number for number, line in enumerate(lines, start=1) if line.startswith("## ")]
        if page.startswith("docs/porting_"):
            heads = []
        for count, (start, stop) in enumerate(itertools.pairwise([0, *heads, len(lines) + 1])):
            blocks = [found.code for found in snippets.snippets(page) if start < found.line < stop and found.typed]
            if blocks:
                yield f"{re.sub(r'[^a-z]', '_', page.lower())}_{count}", "\n".join([*given(page, blocks), *blocks])


def given(page: str, blocks: list[str]) -> list[str]:
    """Lines before the code of a section: imports, and what a model is that it uses without making it."""
    kinds = {"segmentation": "SemanticSegmentation", "detection": "ObjectDetection"}
    task = next((kind for word, kind in kinds.items() if word in page), "ImageClassification")
    made = any(re.search("^model = ", code, re.MULTILINE) for code in blocks)
    return [snippets.GIVEN, IMPORTS, *([] if made else [f"model: MobileNetV2For{task}"])]


SECTIONS = dict(sections())


@pytest.fixture(scope="module")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy says of everything at once, in strict mode, of a user's project."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("project")
    for name, code in SECTIONS.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    (folder / USES.name).write_text(USES.read_text(encoding="utf-8"), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "MYPYPATH"}
    if any("__editable__" in str(file) for file in metadata.files("npmnv2") or ()):
        environment["MYPYPATH"] = str(snippets.ROOT)  # mypy does not follow the finders of editable installations
    options = ["--strict", "--config-file=", "--follow-imports=silent", "--no-pretty"]
    command = [sys.executable, "-m", "mypy", *options, "."]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    return run.stdout


def complaints(mypy: str, file: str) -> list[str]:
    return [line for line in mypy.splitlines() if line.startswith(f"{file}:")]


def test_right_uses_pass_and_wrong_ones_do_not(mypy: str) -> None:
    assert complaints(mypy, USES.name) == []


@pytest.mark.skipif(not SECTIONS, reason="needs the repository")
@pytest.mark.parametrize("name", SECTIONS)
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
        ("detection", loading.DetectorName),
        ("features", loading.BackboneName),
    ],
)
def test_names_that_load_knows_are_those_of_the_registry(task: str, names: object) -> None:
    assert set(get_args(names)) == {entry.name for entry in ENTRIES if entry.task == task}
