"""The text of a function that a user wrote, as a file that stands for itself."""

from __future__ import annotations

import ast
import builtins
import dis
import hashlib
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any


def text_of_function(function: Callable[..., Any], name: str) -> str:
    """Returns the text of a function under another name, after imports of the modules that it reads.

    Raises:
        TypeError: if the function reads anything else from outside, whose value no text has, or if its text is not known.
    """
    title = getattr(function, "__name__", repr(function))
    if not inspect.isfunction(function) or title == "<lambda>":
        raise TypeError(f"a function that is defined by `def` is expected, and not {title}")
    try:
        lines = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise TypeError(f"the text of `{title}` is not known; define it in a file or in a cell of a notebook") from None
    definition = ast.parse(lines).body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise TypeError(f"`{title}` is no plain function")
    if len(definition.decorator_list) > 1:
        raise TypeError(f"`{title}` has another decorator, which would not be applied")
    if not all(_is_literal(value) for value in [*definition.args.defaults, *definition.args.kw_defaults] if value is not None):
        raise TypeError(f"a default of `{title}` is no literal, {_ADVICE}")
    imports = [f"import {module}" + (f" as {local}" if local != module else "") for local, module in _imports(function)]
    # The lines from `def` on, without the decorator, and with the name that is expected.
    body = lines.split("\n")[definition.lineno - 1 :]
    body[0] = re.sub(r"^(\s*def\s+)\w+", rf"\g<1>{name}", body[0], count=1)
    # Annotations are not evaluated, since their names may be those of the user's file.
    return "\n".join(["from __future__ import annotations", *imports, "", "", *body]) + "\n"


def modules_of(function: Callable[..., Any]) -> dict[str, str]:
    """Returns the versions of the packages of modules that a function reads, empty for those of Python itself.

    Raises:
        TypeError: if a module is of no package with a version, so that a change of it would not be noticed.
    """
    found = {}
    for _, module in _imports(function):
        package = module.partition(".")[0]
        version = getattr(sys.modules[package], "__version__", None)
        if version is None and package not in sys.stdlib_module_names:
            raise TypeError(f"`{function.__name__}` reads the module `{module}`, which has no version")
        found[module] = "" if version is None else str(version)
    return found


def _imports(function: Callable[..., Any]) -> list[tuple[str, str]]:
    """Returns the modules that a function reads: its names for them, and their own."""
    code, names = function.__code__, function.__globals__
    if code.co_freevars:
        raise TypeError(f"`{function.__name__}` reads `{code.co_freevars[0]}` of the function around it, {_ADVICE}")
    for value in [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]:
        if value is not None and not isinstance(value, (bool, int, float, str, bytes)):
            raise TypeError(f"`{function.__name__}` has a default that is no constant: {value!r:.100}")
    found = {}
    for read in _globals(code):
        value = names.get(read, builtins.__dict__.get(read))
        if isinstance(value, ModuleType):
            found[read] = value.__name__
        elif read in names or not hasattr(builtins, read):
            raise TypeError(f"`{function.__name__}` reads `{read}`, which is no module, {_ADVICE}")
    return sorted(found.items())


_ADVICE = "so its value would be in no key: define it inside of the function, or give it as a parameter"


def _is_literal(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return True


def _globals(code: CodeType) -> Iterator[str]:
    """Yields the names that a function and what is defined in it read from outside."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


def cache_folder() -> Path:
    """Returns the folder for what this package writes for the program, which is kept, since runs name its files."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "fedreplay" / "python"


def digest(content: bytes) -> str:
    """Returns a name for a content."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file that appears whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(file)
