"""The lessons run, and their pages show what they print and draw."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
LESSONS = ROOT / "docs" / "lessons"
if not LESSONS.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)
pytest.importorskip("matplotlib")

NAMES = sorted(file.stem for file in LESSONS.glob("*.py"))


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.setenv("NPMNV2_OFFLINE", "1")
    monkeypatch.delitem(sys.modules, "lessons", raising=False)
    return __import__("lessons")


def seen(file: Path) -> np.ndarray:
    """A picture as one sees it from afar, so that fonts do not count."""
    with Image.open(file) as picture:
        return np.asarray(picture.convert("L").resize((32, 16), Image.Resampling.BOX), np.float64) / 255


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_what_its_lesson_prints_and_draws(lessons: ModuleType, name: str, tmp_path: Path) -> None:
    page = lessons.render(LESSONS / f"{name}.py", tmp_path)
    assert page == (LESSONS / f"{name}.md").read_text(encoding="utf-8"), f"run python tools/lessons.py {name}"
    pictures = re.findall(rf"\]\(\.\./images/lessons/({name}_\d+\.webp)\)", page)
    assert pictures
    assert sorted(pictures) == sorted(file.name for file in lessons.PICTURES.glob(f"{name}_*"))
    for picture in pictures:
        assert np.abs(seen(tmp_path / picture) - seen(lessons.PICTURES / picture)).mean() < 0.03, picture


def test_cells_become_text_code_and_output(lessons: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "small.py"
    script.write_text(
        "# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nfor n in range(2):\n    print(n)\n\n# %%\nsilent = n\n"
        "\n# %%\nprint(silent / 0)\n",
        encoding="utf-8",
    )
    with pytest.raises(ZeroDivisionError) as failure:
        lessons.render(script, tmp_path)
    assert failure.traceback[-1].lineno == 13  # counted from 0: an error names the line of the script
    script.write_text(script.read_text(encoding="utf-8").replace("/ 0", "* 5"), encoding="utf-8")
    assert lessons.render(script, tmp_path).split("\n\n")[1:] == [
        "# Title",
        "Text.",
        "```python\nfor n in range(2):\n    print(n)\n```",
        "```text\n0\n1\n```",
        "```python\nsilent = n\n```",
        "```python\nprint(silent * 5)\n```",
        "```text\n5\n```\n",
    ]


def test_figures_become_pictures_with_their_label(lessons: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "drawn.py"
    script.write_text(
        "# %%\nimport matplotlib.pyplot as plt\n\nplt.figure(num='A line')\nplt.plot([1, 2])\n", encoding="utf-8"
    )
    assert lessons.render(script, tmp_path).endswith("![A line](../images/lessons/drawn_1.webp)\n")
    with Image.open(tmp_path / "drawn_1.webp") as picture:
        assert min(picture.size) > 100
