"""Python in a new process, with the package that is tested and none other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import npmnv2

# A child finds packages by its own path, which may lead to another installation: it must then say so and not pass.
_SAME_PACKAGE = f"import npmnv2; assert npmnv2.__file__ == {npmnv2.__file__!r}, npmnv2.__file__\n"


def run_python(code: str, folder: Path, timeout: float = 300, **environment: str) -> str:
    """Run a script in the empty `folder` until it ends well by itself; return what it prints.

    It is a file, so that spawned grandchildren can import it. Modules of tests/ are importable.
    """
    script = folder / "script.py"
    script.write_text(_SAME_PACKAGE + code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,  # in the repository's root, Python would import the folders there
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
