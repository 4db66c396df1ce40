"""Models that other runtimes' tools convert, kept in a folder: to convert takes minutes, and TensorFlow and NNCF."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path


class Models:
    """A folder of converted models; a temporary one unless `keep_in` names another."""

    def __init__(self) -> None:
        self.folder: Path | None = None

    def keep_in(self, folder: Path) -> None:
        """Keep models, and take those that are there. They are of one release of each tool: begin a new one with it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def __call__(self, name: str, convert: Callable[[Path], None]) -> Path:
        """Return the folder of a model's files, which `convert` writes unless they are there."""
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp())
            weakref.finalize(self, shutil.rmtree, self.folder)
        kept = self.folder / name.replace(" ", "_")
        if not kept.exists():
            new = kept.with_name(f"{kept.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            convert(new)
            new.rename(kept)  # whole or not at all
        return kept


models = Models()
