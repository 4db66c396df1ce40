"""The builder of native kernels: every platform known twice, nothing foreign inside, the same bytes again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from npmnv2.kernels.host.target import IntegerTarget, Target

TOOLS = Path(__file__).resolve().parents[2] / "tools"
if not TOOLS.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)
pytest.importorskip("setuptools", "64")
llvm = pytest.importorskip("llvmlite.binding")


@pytest.fixture(scope="module")
def build_native():
    sys.path.insert(0, str(TOOLS))
    try:
        import build_native
    finally:
        sys.path.remove(str(TOOLS))
    return build_native


def test_every_platform_has_a_tag(build_native) -> None:
    import native_wheel

    assert list(build_native.PLATFORMS) == list(native_wheel.TAGS)


STANDING_ALONE = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define i64 @npmnv2_run_x(i64 %call) {
  %at = inttoptr i64 %call to ptr
  call void @llvm.memset.p0.i64(ptr %at, i8 0, i64 %call, i1 false)
  %value = call i64 @inner(i64 %call)
  ret i64 %value
}
define i64 @inner(i64 %x) noinline {
  ret i64 %x
}
define void @unreachable() {
  call void @foreign()
  ret void
}
declare void @foreign()
"""


def _strip(build_native, source: str):
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(source)
    build_native._strip(module, llvm.Target.from_default_triple().create_target_machine())
    return module


def test_only_entry_points_stay_visible(build_native) -> None:
    module = _strip(build_native, STANDING_ALONE)
    linkage = {function.name: function.linkage for function in module.functions if not function.is_declaration}
    assert linkage == {"npmnv2_run_x": llvm.Linkage.external, "inner": llvm.Linkage.internal}


def test_foreign_symbols_are_refused(build_native) -> None:
    calls = STANDING_ALONE.replace("%value =", "call void @foreign()\n  %value =")
    with pytest.raises(SystemExit, match=r"kernels must stand alone, but they need .*foreign"):
        _strip(build_native, calls)


def test_exceptions_are_refused(build_native) -> None:
    raises = '@.const.pickledata.1 = internal constant [1 x i8] c"x"\n' + STANDING_ALONE.replace(
        "%value =", "%why = load i8, ptr @.const.pickledata.1\n  store volatile i8 %why, ptr %at\n  %value ="
    )
    with pytest.raises(SystemExit, match=r"raise .*pickledata"):
        _strip(build_native, raises)


def test_dot_products_for_arm_are_compiled_anywhere(build_native) -> None:
    pytest.importorskip("numba")
    from npmnv2.kernels.device.addressing import View
    from npmnv2.kernels.device.integers.product import BytePanel, make_tile
    from npmnv2.kernels.device.jit import njit
    from npmnv2.kernels.device.pointwise import Position

    tile = make_tile(IntegerTarget(Target(4, 32, frozenset({"dotprod"})), "xnnpack"), 7)

    @njit(cached=False)
    def run(a, b):
        tile(View(a, b, b), BytePanel(a, b, a, a, b, b), a, View(b, a, a), Position(a, a, b))

    build_native._declare_stand_ins()
    run.compile("void(int64, int64)")
    platform = build_native.PLATFORMS["linux-aarch64"]
    (isa,) = (each for each in platform.instruction_sets if each.name == "neondot")
    machine = build_native._machine(platform, isa.cpu, isa.features)
    (code,) = run.inspect_llvm().values()
    retargeted = build_native._retarget(code, platform.triple, str(machine.target_data))
    lines = machine.emit_assembly(llvm.parse_assembly(retargeted)).splitlines()
    # Seven pixels and two vectors; what a word is lowered by is subtracted once.
    assert [sum(name in line for line in lines) for name in ("\tsdot\t", "\teor\tv", "npmnv2_sdot")] == [14, 7, 0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_builds_are_the_same_bytes(build_native, tmp_path: Path) -> None:
    """Of one instruction set: all of them are made in the same way, each in a process of its own."""
    platform = build_native.this_platform()
    if platform not in build_native.PLATFORMS:
        pytest.skip("native kernels are not built for this platform")
    folders = [tmp_path / name for name in ("first", "second")]
    smallest = min(build_native.PLATFORMS[platform].instruction_sets, key=lambda isa: len(isa.kinds)).name
    commands = [[sys.executable, TOOLS / "build_native.py", "--only", smallest, "--out", folder] for folder in folders]
    builds = [subprocess.Popen(command, cwd=tmp_path) for command in commands]
    assert [build.wait(timeout=600) for build in builds] == [0, 0]
    first, second = (json.loads((folder / "manifest.json").read_text()) for folder in folders)
    assert first == second
    assert [name for kernels in first["kernels"].values() for name in kernels] == [smallest]
