"""Tags the wheel for any Python 3 on Linux with x86-64: it carries a program, and no compiled extension of Python.

The rest is in pyproject.toml. tools/wheel/build calls this in a copy of this folder that has the program, and names in
FEDREPLAY_WHEEL_PLATFORM the platform that the program needs.
"""

import os
import platform
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel


class ProgramDistribution(Distribution):
    def has_ext_modules(self):
        # It has none, but belongs where packages with machine code are installed: PyTorch, which it looks for beside itself, is there.
        return True


class ProgramWheel(bdist_wheel):
    def get_tag(self):
        return "py3", "none", os.environ["FEDREPLAY_WHEEL_PLATFORM"]

    def run(self):
        system, machine = platform.system(), platform.machine()
        if (system, machine) != ("Linux", "x86_64"):
            sys.exit(
                f"error: fedreplay runs on Linux with an x86-64 processor, and this is {system} on {machine}: the kernels that "
                f"give everybody the same bits are written for AVX2"
            )
        if not Path("fedreplay/bin/fedreplay").is_file() or "FEDREPLAY_WHEEL_PLATFORM" not in os.environ:
            sys.exit(
                "error: this is the Python part of fedreplay, without its program: install the wheel, which brings the program, "
                "or run `make wheel` in a checkout of the whole source"
            )
        super().run()


setup(distclass=ProgramDistribution, cmdclass={"bdist_wheel": ProgramWheel})
