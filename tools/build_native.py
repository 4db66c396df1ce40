"""Compile the kernels ahead of time into one shared library. Needs Numba and a linker; its users need neither.

    python tools/build_native.py [--platform linux-x86_64] [--out kernels/native] [--only avx512 …]

Every instruction set is compiled in a process of its own, in which Numba is told to compile for that processor. Of what
it makes only the two entry points stay visible; what they do not reach is removed, and the only symbols that the
library may need are memcpy and memset. The same sources and versions give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform as this
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from native_wheel import this_platform
from npmnv2.kernels.host.abi import layout_digest, source_digest
from npmnv2.kernels.host.instruction_sets import (
    APPLE,
    ARM,
    BFLOAT16,
    FLOAT,
    KINDS,
    REFERENCE,
    X86,
    XNNPACK,
    InstructionSet,
)  # fmt: skip
from npmnv2.kernels.host.library import FOLDER, MANIFEST
from npmnv2.kernels.host.target import BFLOAT16_PRODUCTS, IntegerTarget, Target


class Platform(NamedTuple):
    """What a library is built for: names of it that LLVM and zig know, the library's file and instruction sets."""

    triple: str
    zig: str
    file: str
    instruction_sets: tuple[InstructionSet, ...]


PLATFORMS = {
    "linux-x86_64": Platform("x86_64-unknown-linux-gnu", "x86_64-linux-gnu.2.17", "libnpmnv2.so", X86),
    "linux-aarch64": Platform("aarch64-unknown-linux-gnu", "aarch64-linux-gnu.2.17", "libnpmnv2.so", ARM),
    "musllinux-x86_64": Platform("x86_64-unknown-linux-musl", "x86_64-linux-musl", "libnpmnv2.so", X86),
    "musllinux-aarch64": Platform("aarch64-unknown-linux-musl", "aarch64-linux-musl", "libnpmnv2.so", ARM),
    "macosx-x86_64": Platform("x86_64-apple-macosx11.0.0", "x86_64-macos.11.0", "libnpmnv2.dylib", X86),
    "macosx-arm64": Platform("arm64-apple-macosx11.0.0", "aarch64-macos.11.0", "libnpmnv2.dylib", APPLE),
    "win-amd64": Platform("x86_64-w64-windows-gnu", "x86_64-windows-gnu", "npmnv2.dll", X86),
}

# What the compiled functions look like to C. Numba's own convention returns a status, which is always 0 as nothing
# raises, and the result through a pointer.
_WRAPPERS = """
declare i32 @{enter}(ptr, ptr, i64, i64, i64)
define {export} i64 @npmnv2_run_{name}(i64 %call, i64 %team, i64 %workers) {{
  %result = alloca i64
  %raised = alloca ptr
  %status = call i32 @{enter}(ptr %result, ptr %raised, i64 %call, i64 %team, i64 %workers)
  %value = load i64, ptr %result
  ret i64 %value
}}
define {export} i64 @npmnv2_serve_{name}(i64 %team, i64 %workers) {{
  %value = call i64 @npmnv2_run_{name}(i64 0, i64 %team, i64 %workers)
  ret i64 %value
}}
"""
# How an x86 library asks its processor what it has.
_CPUID = """
define {export} void @npmnv2_cpuid(i32 %leaf, i32 %subleaf, ptr %out) {{
  %found = call {{ i32, i32, i32, i32 }}
    asm sideeffect "cpuid", "={{ax}},={{bx}},={{cx}},={{dx}},{{ax}},{{cx}}"(i32 %leaf, i32 %subleaf)
  store {{ i32, i32, i32, i32 }} %found, ptr %out
  ret void
}}
define {export} i32 @npmnv2_xgetbv() {{
  %found = call {{ i32, i32 }} asm sideeffect "xgetbv", "={{ax}},={{dx}},{{cx}}"(i32 0)
  %low = extractvalue {{ i32, i32 }} %found, 0
  ret i32 %low
}}
"""


# ---- In a process per instruction set --------------------------------------------------------------------------------


def emit(platform: Platform, name: str, out: Path) -> None:
    """Write the object files of one instruction set, and notes of their targets."""
    (isa,) = (each for each in platform.instruction_sets if each.name == name)
    for kind in isa.kinds:
        emit_kind(platform, isa, kind, out)


def emit_kind(platform: Platform, isa: InstructionSet, kind: str, out: Path) -> None:
    """Write the object file of one kind of kernels."""
    import llvmlite.binding as llvm
    from npmnv2.kernels.device.program import make_enter
    from npmnv2.kernels.device.thread_team import ENTER_TYPES

    _declare_stand_ins()
    target = _target(platform, isa, kind)
    machine = _machine(platform, isa.cpu, isa.features)
    enter = make_enter(target)
    enter.compile(ENTER_TYPES)
    (compiled,) = enter.overloads.values()
    text = str(compiled.library._final_module).replace(compiled.fndesc.llvm_func_name, "enter")
    module = llvm.parse_assembly(_retarget(text, platform.triple, str(machine.target_data)))
    whole = _parse(
        _WRAPPERS.format(enter="enter", name=f"{kind}_{isa.name}", export=_export(platform)), platform, machine
    )
    whole.link_in(module)
    _strip(whole, machine)
    (out / f"{kind}_{isa.name}.o").write_bytes(machine.emit_object(whole))
    processor = target if isinstance(target, Target) else target.processor
    about = {**processor._asdict(), "features": sorted(processor.features)}
    (out / f"{kind}_{isa.name}.json").write_text(json.dumps(about))


def emit_cpuid(platform: Platform, out: Path) -> None:
    """Write the object file of what every x86 processor can run."""
    import llvmlite.binding as llvm

    llvm.initialize_native_asmparser()
    machine = _machine(platform, "x86-64", "")
    (out / "cpuid.o").write_bytes(
        machine.emit_object(_parse(_CPUID.format(export=_export(platform)), platform, machine))
    )


def _machine(platform: Platform, cpu: str, features: str) -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(platform.triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default"
    )


def _parse(text: str, platform: Platform, machine: Any) -> Any:
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = platform.triple, str(machine.target_data)
    return module


# Features of another platform that this one compiles stand-ins for.
_STOOD_IN_FOR = frozenset({"dotprod"})


def _declare_stand_ins() -> None:
    """Give Numba an address for what it compiles for this machine, though nobody runs it; `_retarget` replaces it."""
    import llvmlite.binding as llvm
    from npmnv2.kernels.device.integers.simd import SIGNED_DOT_STAND_IN

    llvm.add_symbol(SIGNED_DOT_STAND_IN, 1)


def _target(platform: Platform, isa: InstructionSet, kind: str) -> Target | IntegerTarget:
    """Numba compiles for x86 here even if the platform is another: then its code is given to another back end."""
    from npmnv2.kernels.device.probe import host_features, host_target

    native = _is_native(platform)
    target = host_target() if native else Target(lanes=4, registers=32)
    if kind == FLOAT:
        return target
    if kind == BFLOAT16:
        return target._replace(features=frozenset({BFLOAT16_PRODUCTS}))
    features = host_features() if native else isa.feature_names & _STOOD_IN_FOR
    return IntegerTarget(target._replace(features=features), XNNPACK if kind == XNNPACK else REFERENCE)


def _is_native(platform: Platform) -> bool:
    return (platform.instruction_sets == X86) == (this.machine().lower() in ("x86_64", "amd64"))


def _export(platform: Platform) -> str:
    return "dllexport" if "windows" in platform.triple else ""


def _retarget(text: str, triple: str, layout: str) -> str:
    from npmnv2.kernels.device.integers.simd import SIGNED_DOT, SIGNED_DOT_STAND_IN

    text = re.sub(r"^target triple = .*$", f'target triple = "{triple}"', text, flags=re.M)
    text = re.sub(r"^target datalayout = .*$", f'target datalayout = "{layout}"', text, flags=re.M)
    if triple.startswith(("aarch64", "arm64")):
        text = text.replace("void @llvm.x86.sse2.pause()", "void @llvm.aarch64.hint(i32 1)")
        text = text.replace("declare void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)")
        text = text.replace(f"@{SIGNED_DOT_STAND_IN}(", f"@{SIGNED_DOT}(")
    return text


def _strip(whole: Any, machine: Any) -> None:
    """Hide all but the entry points, remove what they do not reach, and refuse what has to come from elsewhere."""
    from llvmlite.binding import newpassmanagers as passes

    for thing in (*whole.functions, *whole.global_variables):
        if not thing.is_declaration and not thing.name.startswith("npmnv2_"):
            thing.linkage = "internal"
    builder = passes.create_pass_builder(machine, passes.create_pipeline_tuning_options(speed_level=1))
    manager = passes.create_new_module_pass_manager()
    manager.add_global_dead_code_eliminate_pass()
    manager.add_strip_dead_prototype_pass()
    manager.run(whole, builder)
    whole.verify()
    foreign = [f.name for f in whole.functions if f.is_declaration and not f.name.startswith("llvm.")]
    foreign += [v.name for v in whole.global_variables if v.is_declaration]
    raises = [str(v) for v in whole.global_variables if v.name.startswith(".const.pickledata")]
    if foreign or raises:
        raise SystemExit(f"kernels must stand alone, but they need {foreign} and raise {raises}")


# ---- All of them -----------------------------------------------------------------------------------------------------


def build(key: str, out: Path, only: Collection[str] = ()) -> Path:
    """Build the library of a platform, or only some of its instruction sets, and its manifest; return the library."""
    platform = PLATFORMS[key]
    chosen = [isa for isa in platform.instruction_sets if not only or isa.name in only]
    out.mkdir(parents=True, exist_ok=True)
    library = out / platform.file
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        parts = [(isa.name, isa if _is_native(platform) else None) for isa in chosen]
        if platform.instruction_sets == X86:
            parts.append(("cpuid", None))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda part: _emit_in_new_process(key, *part, work), parts))  # a list: errors are raised
        objects = sorted(work.glob("*.o"))
        subprocess.run([*_linker(key, platform), "-o", str(library), *map(str, objects)], check=True)
        for unused in out.glob("*.lib"):  # for programs that link to the DLL; nobody does
            unused.unlink()
        manifest = {
            "file": library.name,
            "sha256": hashlib.sha256(library.read_bytes()).hexdigest(),
            "layouts": layout_digest(),
            "sources": source_digest(),
            "kernels": {kind: _built(chosen, kind, work) for kind in KINDS},
        }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return library


def _built(chosen: Iterable[InstructionSet], kind: str, work: Path) -> dict[str, Any]:
    """The targets of one kind of kernels by their instruction sets."""
    names = [isa.name for isa in chosen if kind in isa.kinds]
    return {name: json.loads((work / f"{kind}_{name}.json").read_text()) for name in names}


def _emit_in_new_process(key: str, name: str, isa: InstructionSet | None, work: Path) -> None:
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": isa.cpu if isa else "x86-64-v2",
        "NUMBA_CPU_FEATURES": isa.features if isa else "",
        "NUMBA_CACHE_DIR": str(work / name),  # an empty one: what is compiled here is compiled anew
        "PYTHONHASHSEED": "0",
    }
    command = [sys.executable, __file__, "--platform", key, "--emit", name, "--out", str(work)]
    subprocess.run(command, env=environment, check=True)


def _linker(key: str, platform: Platform) -> list[str]:
    native = key == this_platform()
    compiler = os.environ.get("CC") or shutil.which("cc")
    if native and compiler:
        command = [*compiler.split()]
    elif find_spec("ziglang"):
        command = [sys.executable, "-m", "ziglang", "cc", "-target", platform.zig]
    else:
        raise SystemExit("linking needs a C compiler (cc, or the one named by CC) or the package ziglang")
    if "linux" in platform.triple:
        hidden = "-Wl,-z,noexecstack,--gc-sections,--build-id=none"
        return [*command, "-shared", "-nostartfiles", "-s", hidden]
    return [*command, "-shared", "-Wl,-s" if "macos" in platform.triple else "-s"]


def main() -> None:
    """Build, or emit the object of one instruction set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--platform", choices=PLATFORMS, default=this_platform())
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="+", default=(), metavar="SET", help="instruction sets; for a quick trial")
    parser.add_argument("--emit", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.emit == "cpuid":
        emit_cpuid(PLATFORMS[options.platform], options.out)
    elif options.emit:
        emit(PLATFORMS[options.platform], options.emit, options.out)
    else:
        library = build(options.platform, options.out, options.only)
        print(f"{library}: {library.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
