"""Read many damaged files of every format, and keep what came of it.

    python benchmarks/fuzz.py [--variants 20000] [--json FILE]

Takes hours. The tests do the work (tests/weights_tools/test_fuzz.py). They fail at the first file that neither loads
nor ends in a WeightsError.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from recorded import FUZZ, ROOT

TEST = ROOT / "tests" / "weights_tools" / "test_fuzz.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", type=int, default=20_000)
    parser.add_argument("--json", type=Path, default=FUZZ)
    options = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-m", "slow", "-k", "many", str(TEST)]
    environment = {**os.environ, "NPMNV2_FUZZ": str(options.variants)}
    run = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    about = {"date": str(datetime.date.today()), "files": results(run.stdout)}
    options.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def results(printed: str) -> list[dict]:
    """The lines of JSON among what the tests print, which begins with a dot for each test that passed."""
    return [json.loads(line) for line in re.findall(r"\{.*\}", printed)]


if __name__ == "__main__":
    main()
