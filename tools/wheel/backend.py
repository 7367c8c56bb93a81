"""Calls one hook of the build backend in a folder, as pip would, in this environment instead of one that is downloaded.

    .venv-wheel/bin/python tools/wheel/backend.py build_wheel FOLDER INTO
"""

import contextlib
import os
import sys
from pathlib import Path

from setuptools import build_meta


def main():
    hook, folder, into = sys.argv[1:]
    into = Path(into).resolve()
    os.chdir(folder)
    sys.argv = ["setup.py"]
    # What it prints is of use to nobody; its errors are sentences on stderr.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        getattr(build_meta, hook)(str(into))


if __name__ == "__main__":
    main()
