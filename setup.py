"""What pyproject.toml cannot say: that a wheel may hold a library of kernels, see tools/native_wheel.py."""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

TOOLS = Path(__file__).parent / "tools"
sys.path.insert(0, str(TOOLS))

from native_wheel import SETTING, TAGS  # noqa: E402

PLATFORM = os.environ.get(SETTING, "")


class BuildWithKernels(build_py):
    """Compiles the kernels that were copied for the wheel."""

    def run(self) -> None:
        super().run()
        if PLATFORM:
            built = Path(self.build_lib).resolve()
            out = str(built / "npmnv2" / "kernels" / "native")
            command = [sys.executable, str(TOOLS / "build_native.py"), "--platform", PLATFORM, "--out", out]
            path = os.pathsep.join(filter(None, (str(built), os.environ.get("PYTHONPATH"))))  # pip's own stands there
            environment = {**os.environ, "PYTHONPATH": path}
            subprocess.run(command, env=environment, check=True)


class PlatformWheel(bdist_wheel):
    """One wheel for a platform, whatever the version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", TAGS[PLATFORM]) if PLATFORM else super().get_tag()


class WithLibrary(Distribution):
    """Tells wheels where to put their files: a shared library belongs in platlib."""

    def has_ext_modules(self) -> bool:
        return bool(PLATFORM)


setup(distclass=WithLibrary, cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel})
