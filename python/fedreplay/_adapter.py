"""Adapters of a run: as PEFT folders and as tensors."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Literal

from fedreplay._process import call

_TYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4"}


class Adapter:
    """The server's adapter after a round, or that of a client that has a model of its own."""

    def __init__(self, run: Path, round: int | None, client: int | None, store: str | Path | None) -> None:
        self._arguments: list[str | Path] = ["export", run, "--to", "peft"]
        for option, value in (("--round", round), ("--client", client), ("--store", store)):
            if value is not None:
                self._arguments += [option, str(value)]
        self._name = f"<Adapter of {run}, {'the last round' if round is None else f'round {round}'}>"

    def peft(self, folder: str | Path, *, merged: bool = False) -> Path:
        """Writes the adapter as a folder that ``peft.PeftModel.from_pretrained`` loads, and returns the folder.

        Args:
            folder: Folder to write, which must not be there.
            merged: Write the base model with the adapter merged into it instead, in f32.

        Raises:
            Refused: if the run saved no adapter of this round and the store has none, or the folder is there.
        """
        call([*self._arguments, "--out", folder, *(["--merged"] if merged else [])])
        return Path(folder)

    def tensors(self, framework: Literal["numpy", "torch"] = "numpy") -> dict[str, Any]:
        """Returns the tensors by their names in PEFT's form.

        ``...lora_A.weight`` has the shape (rank, inputs of the module), ``...lora_B.weight`` the shape (outputs, rank); both in f32.

        Args:
            framework: Whether the tensors are arrays of numpy or tensors of PyTorch.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = self.peft(Path(folder) / "adapter") / "adapter_model.safetensors"
            arrays = read_safetensors(file)
        if framework == "numpy":
            return arrays
        import torch

        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def __repr__(self) -> str:
        return self._name


def read_safetensors(file: Path) -> dict[str, Any]:
    """Reads a file of safetensors with numpy: a header in JSON after its length in 8 bytes, then the tensors."""
    import numpy

    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    arrays = {}
    for name, entry in json.loads(content[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(content[start + begin : start + end], dtype=_TYPES[entry["dtype"]])
        # Copied, since an array of immutable bytes cannot be written to.
        arrays[name] = values.reshape(entry["shape"]).copy()
    return arrays
