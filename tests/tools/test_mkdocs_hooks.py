"""The site and GitHub show the same pages: links, fences, and what every page is for."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import npmnv2
from npmnv2 import kernels, weights_tools

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "mkdocs.yml").is_file():
    pytest.skip("needs the repository", allow_module_level=True)

PAGES = sorted(file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md"))


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.delitem(sys.modules, "mkdocs_hooks", raising=False)
    return __import__("mkdocs_hooks")


@pytest.mark.parametrize(
    ("page", "target", "on_the_site"),
    [
        ("index.md", "docs/weights.md", "weights.md"),
        ("index.md", "docs/images/performance.png", "images/performance.png"),
        ("index.md", "kernels/README.md", "kernels.md"),
        ("weights.md", "checkpoints.md", "checkpoints.md"),
        ("weights.md", "../README.md", "index.md"),
        ("weights.md", "../npmnv2/weights/hdf5.py", "source/npmnv2/weights/hdf5.py.md"),
        ("reference/kernels.md", "../../kernels/README.md", "../kernels.md"),
        ("reference/kernels.md", "../../kernels/conv.py", "../source/kernels/conv.py.md"),
        ("contributing.md", "../docs/numerics.md", "numerics.md"),
        ("lessons/padding.md", "padding.py", "../source/docs/lessons/padding.py.md"),
    ],
)
def test_a_link_of_the_repository_becomes_one_of_the_site(
    hooks: ModuleType, page: str, target: str, on_the_site: str
) -> None:
    assert hooks.site_link(page, target) == on_the_site


def test_only_links_outside_code_change(hooks: ModuleType) -> None:
    page = (
        "[a](../kernels/add.py#x) and\n\n```python skip: because\nf[0](../kernels/add.py)\n```\n\n[b](https://x.org)\n"
    )
    expected = "[a](source/kernels/add.py.md#x) and\n\n```python\nf[0](../kernels/add.py)\n```\n\n[b](https://x.org)\n"
    assert hooks.for_the_site("numerics.md", page) == expected
    assert list(hooks.linked_sources("numerics.md", page)) == ["kernels/add.py"]


def test_a_listing_shows_the_whole_file(hooks: ModuleType) -> None:
    assert (ROOT / "kernels" / "add.py").read_text(encoding="utf-8").rstrip() in hooks.listing("kernels/add.py")
    assert "\ndevice\nhost\n" in hooks.listing("kernels")


def test_every_page_is_in_the_navigation(hooks: ModuleType) -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = re.findall(r"[\w/]+\.md$", settings.partition("\nnav:\n")[2], re.MULTILINE)
    assert sorted(pages) == sorted([*PAGES, *hooks.FILES]), "add the page to nav in mkdocs.yml"


@pytest.mark.parametrize("module", [npmnv2, weights_tools, kernels], ids=lambda module: module.__name__)
def test_the_reference_has_every_public_name(module: ModuleType) -> None:
    text = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "docs" / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    missing = []
    for value in (getattr(module, name) for name in module.__all__):
        if getattr(value, "__module__", "").startswith("npmnv2.") and hasattr(value, "__qualname__"):
            # kernels/ and weights_tools/ are documented where their files lie.
            home = re.sub(r"^npmnv2\.(?=kernels|weights_tools)", "", value.__module__)
            if not {home, f"{home}.{value.__qualname__}"} & documented:
                missing.append(f"{home}.{value.__qualname__}")
    assert not missing, "add them to a page of docs/reference"
