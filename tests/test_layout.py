"""Which room imports which: downwards only, so that a reader finds a thing in one direction."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs the repository")

# From the bottom up. Rooms of one level do not see each other.
LEVELS = (
    ("errors", "files", "forks", "memory"),
    ("kernels",),
    ("labels",),
    ("network",),
    ("results",),
    ("backends", "images", "weights"),
    ("models", "weights_tools"),
    ("hub",),
    ("loading",),
    ("lab", "scale", "serve", "similarity"),
    ("learn",),
    ("reports",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

MODULE = re.compile(r"npmnv2(\.[a-z_0-9]+)+")

# Upward imports, each inside a function.
EXCEPTIONS = {
    ("models/base.py", "hub"): "`from_pretrained` takes names as transformers' does, and files need no hub",
    ("labels/build.py", "hub"): "a script for maintainers that downloads as the hub does",
    ("weights/readers.py", "weights_tools"): "the registry names readers; a foreign one is loaded when it is needed",
}


def modules() -> Iterator[tuple[str, Path]]:
    """Name within npmnv2 (`kernels/add.py` for a file of kernels/) and path of every module."""
    for folder in ("npmnv2", "kernels", "weights_tools"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            relative = file.relative_to(ROOT)
            yield str(relative.relative_to("npmnv2") if folder == "npmnv2" else relative), file


def room_of(name: str) -> str:
    """First word of a module's dotted name or path: the room or, at the top, the module itself."""
    return name.removesuffix(".py").replace("/", ".").split(".")[0]


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Room of everything of npmnv2 that a file imports, and whether at its top."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module] if node.module != "npmnv2" else [f"npmnv2.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and MODULE.fullmatch(str(node.value)):
            # The name of a module that is imported later.
            names = [node.value]
        for name in names:
            if name.startswith("npmnv2.") and room_of(name[len("npmnv2.") :]) in LEVEL:
                yield room_of(name[len("npmnv2.") :]), id(node) in top


MODULES = [(name, file) for name, file in modules() if name != "__init__.py"]


@pytest.mark.parametrize(("name", "file"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_go_downwards(name: str, file: Path) -> None:
    room = room_of(name)
    assert room in LEVEL, f"{name} is in no room of LEVELS"
    for other, at_top in imports(file):
        if (name, other) in EXCEPTIONS:
            assert not at_top, f"{name} imports {other} when it is loaded; do it inside the function"
        else:
            assert other == room or LEVEL[other] < LEVEL[room], f"{name} imports {other}, which is not below it"


def test_every_exception_is_needed() -> None:
    seen = {(name, other) for name, file in MODULES for other, _ in imports(file)}
    assert seen >= set(EXCEPTIONS)


# --- the drawing ------------------------------------------------------------------------------------------------------


def test_the_drawing_shows_every_room_on_its_level() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = page.partition("```text levels\n")[2].partition("```")[0]
    drawn = [line.split("│")[1].split() for line in drawing.splitlines() if "│" in line]
    assert [set(rooms) for rooms in reversed(drawn)] == [set(rooms) for rooms in LEVELS]


def test_every_room_is_in_the_table_of_rooms() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = {room for room in LEVEL if any((ROOT / place / room).is_dir() for place in ("npmnv2", "."))}
    assert all(f"| `{folder}` |" in page for folder in folders), folders


MAX_ARGUMENTS = 8


def test_no_function_of_the_kernels_takes_more_arguments_than_a_reader_can_hold() -> None:
    """Those of compiled code and of intrinsics included: what belongs together travels in a named tuple."""
    counts = {}
    for name, file in MODULES:
        if name.startswith("kernels/"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef):
                    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                    own = [argument for argument in arguments if argument.arg not in ("self", "cls")]
                    counts[f"{name}:{node.lineno} {node.name}"] = len(own)
    assert counts
    assert {name: count for name, count in counts.items() if count > MAX_ARGUMENTS} == {}


# --- every module has its test file -----------------------------------------------------------------------------------

# Modules that are tested in a file of another name: which, and why. Patterns cover a folder, not the folders in it.
TESTED_TOGETHER = {
    "kernels/*.py": ("kernels/test_kernels.py", "one file walks the registry of operations"),
    "kernels/device/*.py": ("kernels/test_compiled.py", "the same operations, compiled, as steps of programs"),
    "kernels/quantized/*.py": ("kernels/test_quantized.py", "the same operations on integers"),
    "kernels/device/integers/*.py": ("backends/test_compiled_integers.py", "integers, compiled, layer by layer"),
    "kernels/host/abi.py": ("kernels/test_library.py", "what a library and its caller must agree on"),
    "kernels/host/engine.py": ("kernels/test_engines.py", "the engines side by side"),
    "kernels/host/instruction_sets.py": ("kernels/test_library.py", "what a library chooses from"),
    "kernels/host/arrays.py": ("kernels/test_compiled.py", "the compiled operations by the names of the registry"),
    "kernels/host/build.py": ("kernels/test_compiled.py", "records are right if what they make runs right"),
    "kernels/host/integer_packing.py": ("kernels/test_integers.py", "packs for those kernels"),
    "kernels/host/integer_build.py": ("backends/test_compiled_integers.py", "records are right if they run right"),
    "kernels/host/packing.py": ("backends/test_packed_weights.py", "packs one matrix, there a whole network"),
    "kernels/host/steps.py": ("kernels/test_compiled.py", "the layout of records, which both halves share"),
    "kernels/host/calls.py": ("kernels/test_bound_program.py", "the calls of a bound program"),
    "backends/interface.py": ("backends/test_selection.py", "declares what every backend has"),
    "cli/collection.py": ("cli/test_similar.py", "what two commands share"),
    "lab/adapters/*.py": ("lab/test_adapters.py", "every framework on one network, side by side"),
    "lab/quantization.py": ("models/test_quantization.py", "the report that model.quantize gives"),
    "labels/build.py": ("labels/test_labels.py", "a script for maintainers; its tables are tested"),
    "weights/names.py": ("weights_tools/test_names.py", "names of all makers in one table"),
    "weights_tools/flatbuffer.py": ("weights_tools/test_tflite.py", "the container of TFLite"),
    "weights_tools/flatbuffer_writer.py": ("weights_tools/test_tflite_writer.py", "the container of TFLite"),
}


def own_file(name: str) -> str:
    """Path, below tests/, of a module's own file."""
    room, module = name.split("/")[0] if "/" in name else "", name.rpartition("/")[2]
    return f"{room}/test_{module}".lstrip("/")


def file_for(name: str) -> str | None:
    """Path, below tests/, of the file for a module: of its own name, or of the table; None if neither is there."""
    folder = "/".join(name.split("/")[:-1])
    together = TESTED_TOGETHER.get(name, TESTED_TOGETHER.get(f"{folder}/*.py", ("", "")))[0]
    for file in (own_file(name), together):
        if file and (ROOT / "tests" / file).is_file():
            return file
    return None


@pytest.mark.parametrize("name", [name for name, _ in MODULES if not name.endswith(("__init__.py", "__main__.py"))])
def test_every_module_has_its_test_file(name: str) -> None:
    assert file_for(name), f"{name} has no test file"


def test_the_table_names_what_is_there_and_nothing_with_a_file_of_its_own() -> None:
    names = {name for name, _ in MODULES}
    for name, (file, _) in TESTED_TOGETHER.items():
        assert (ROOT / "tests" / file).is_file(), f"{file} is not there"
        assert "*" in name or name in names, f"{name} is not there"
        assert not (ROOT / "tests" / own_file(name)).is_file(), f"{name} has a file of its own"
