"""Read many damaged files of every format, and keep what came of it.

    python benchmarks/fuzz.py [--variants 20000] [--json FILE] [--again] [KIND …]

Takes hours, and goes on with the kinds that are missing when it is run again. The tests do the work
(tests/weights_tools/test_fuzz.py). They fail at the first file that neither loads nor ends in a WeightsError.
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

import recorded
from recorded import FUZZ, ROOT

TEST = "tests/weights_tools/test_fuzz.py::test_many_more_damaged_files"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="kinds of files, those that are missing if not given")
    parser.add_argument("--variants", type=int, default=20_000)
    parser.add_argument("--json", type=Path, default=FUZZ)
    parser.add_argument("--again", action="store_true", help="all kinds anew")
    options = parser.parse_args()
    before = recorded.read(options.json)["files"] if options.json.exists() and not options.again else []
    done = {file["file"]: file for file in before}
    for kind in options.kinds or [kind for kind in kinds() if kind not in done]:
        (done[kind],) = results(pytest("-s", f"{TEST}[{kind}]", variants=options.variants))
        about = {"date": str(datetime.date.today()), "files": list(done.values())}
        options.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def pytest(*arguments: str, variants: int = 0) -> str:
    """What a run of slow tests prints."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", *arguments]
    environment = {**os.environ, "NPMNV2_FUZZ": str(variants)}
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def kinds() -> list[str]:
    """All kinds of files that there is a test for."""
    return re.findall(re.escape(TEST) + r"\[(.*)\]", pytest("--collect-only", TEST))


def results(printed: str) -> list[dict]:
    """The lines of JSON among what the tests print, which begins with a dot for each test that passed."""
    return [json.loads(line) for line in re.findall(r"\{.*\}", printed)]


if __name__ == "__main__":
    main()
