"""Aggregation rules of one's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedreplay._source import cache_folder, digest, text_of_function, write_whole


class Rule:
    """An aggregation rule: a function ``(server, updates, weights, ranks, staleness, state, **parameters)`` that returns the next adapter and
    state. docs/own-rules.md of the project says what the arguments are.

    It is the value of a scenario's field ``algorithm``::

        @fedreplay.rule
        def fedavgm(server, updates, weights, ranks, staleness, state, beta=0.9):
            ...

        run = fedreplay.run("quickstart", set={"algorithm": fedavgm})
        run = fedreplay.run("quickstart", set={"algorithm": fedavgm.with_parameters(beta=0.5)})
    """

    def __init__(self, function: Callable[..., Any], parameters: dict[str, Any] | None = None) -> None:
        self._function = function
        self.parameters = parameters or {}
        self.text = text_of_function(function, "aggregate")
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any, **parameters: Any) -> Any:
        return self._function(*arguments, **{**self.parameters, **parameters})

    def with_parameters(self, **parameters: Any) -> Rule:
        """Returns the rule with values for its keyword arguments, which are part of the run's digest."""
        return Rule(self._function, {**self.parameters, **parameters})

    @property
    def file(self) -> Path:
        """The rule as a file, under the hash of its text, in the user's cache folder."""
        content = self.text.encode()
        file = cache_folder() / "rules" / f"{self._function.__name__}-{digest(content)}.py"
        if not file.exists():
            write_whole(file, content)
        return file

    def as_field(self) -> dict[str, Any]:
        """Returns the value of the scenario's field ``algorithm``."""
        return {"Python": {"file": str(self.file), "parameters": self.parameters}}


def rule(function: Callable[..., Any]) -> Rule:
    """Makes a function an aggregation rule. It may read modules from outside, whose versions are part of the run's digest as its text is;
    anything else is refused.

    Raises:
        TypeError: if the function reads other names, or its text is not known.
    """
    return Rule(function)
