"""Whole modules in files of torch, of which the tensors are read and the program is not.

OpenAI's CLIP is a TorchScript archive: a zip file with a pickle of the modules' attributes, a file
for each storage, and code, which stays where it is. The walks of Latent2im are modules that
torch.save wrote as they were. Source of the layouts: torch.jit.save and torch.save of PyTorch.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch

from mien.engines.errors import ModelError
from mien.engines.system.limits import check_memory
from mien.export.checkpoints.inert import (
    STORAGES,
    InertUnpickler,
    StandIn,
    Tensors,
    named_tensors,
    plain_names,
)

SCRIPTED = re.compile(r"__torch__\..+")
WALK = re.compile(r"(\w+\.)*transform_base\.Walk\w+")
PICKLE, CONSTANTS = "data.pkl", "constants.pkl"
LISTS: Final = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether a zip file is a TorchScript archive, that is one with constants beside its data."""
    return any(name.endswith(f"/{CONSTANTS}") for name in archive.namelist())


def read_torchscript(file: BinaryIO, path: Path, limit: int) -> dict[str, torch.Tensor]:
    """The tensors of an archive by their names, as `state_dict` of its module has them.

    path: for messages. limit: the most memory that the tensors may take, in bytes.

    Raises ModelError, UnpicklingError, ValueError, KeyError, BadZipFile where it is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        return _tensors(archive, CONSTANTS, SCRIPTED, path, limit)


def read_walk(file: BinaryIO, path: Path, limit: int) -> dict[str, torch.Tensor]:
    """The tensors of a walk of Latent2im that torch.save wrote; the rest as `read_torchscript`."""
    with zipfile.ZipFile(file) as archive:
        return _tensors(archive, PICKLE, WALK, path, limit)


def _tensors(
    archive: zipfile.ZipFile, beside: str, classes: re.Pattern[str], path: Path, limit: int
) -> dict[str, torch.Tensor]:
    """The tensors of an archive whose pickle lies where the file `beside` does."""
    names = archive.namelist()
    root = next(name.removesuffix(beside) for name in names if name.endswith(f"/{beside}"))
    whole = sum(one.file_size for one in archive.infolist())
    check_memory(whole, f"unpacking {path}", limit=limit, error=ModelError)
    with archive.open(f"{root}{PICKLE}") as data:
        held = _Reader(data, archive, root, Tensors(limit, str(path)), classes).load()
    return dict(named_tensors(held))


class _Reader(InertUnpickler):
    """The reader of an archive's pickle, whose storages are files of the archive."""

    def __init__(
        self,
        data: Any,
        archive: zipfile.ZipFile,
        root: str,
        tensors: Tensors,
        classes: re.Pattern[str],
    ) -> None:
        known: dict[str, Callable[..., Any]] = {
            **plain_names(),
            "torch._utils._rebuild_tensor_v2": tensors.rebuilt,
            "torch._utils._rebuild_parameter": tensors.parameter,
            "torch.jit._pickle.restore_type_tag": _first,
            **{f"torch.jit._pickle.{name}": _first for name in LISTS},
            **{f"torch.{name}": _no_storage for name in STORAGES},
        }
        super().__init__(data, known, classes)
        self._archive, self._root = archive, root
        self._read: dict[str, torch.Tensor] = {}

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """The storage that the pickle names, flat. Raises ValueError, KeyError."""
        kind, storage, key = pid[:3]
        name = storage.name.removeprefix("torch.") if isinstance(storage, StandIn) else ""
        if kind != "storage" or name not in STORAGES:
            raise ValueError("a storage of an unknown type")
        if key not in self._read:
            content = bytearray(self._archive.read(f"{self._root}data/{key}"))
            self._read[key] = (
                torch.frombuffer(content, dtype=STORAGES[name])
                if content
                else (torch.empty(0, dtype=STORAGES[name]))
            )
        return self._read[key]


def _first(value: object, *_: object) -> object:
    """Stands for the functions that only say of which type a value is."""
    return value


def _no_storage(*_: object) -> None:
    """Stands for a type of storage, which a pickle names and does not call. Raises ValueError."""
    raise ValueError("a storage within the pickle")
