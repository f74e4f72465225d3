"""Pickles taken apart without looking up or calling anything that they name.

A pickle is a program: it names functions and the reader calls them. Here no name is ever looked
up. The few that files of weights need have a stand-in of mien's own, names of classes that are
expected get an object that does nothing but hold what it was given, and any other name ends the
reading.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Final

import torch

from mien.engines.errors import ModelError
from mien.engines.system.limits import check_memory

MOST_DEPTH: Final = 32  # of objects within objects
MOST_TENSORS: Final = 20_000
MOST_RANK: Final = 16
# Where tensors are, in the types of storages as pickles name them.
STORAGES: Final = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Inert:
    """An object of a class that was not looked up.

    path: of the class, with its module. given: what it would have been called with. state: what it
    would have been filled with.
    """

    path = ""

    def __init__(self, *given: object) -> None:
        self.given = given
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    @property
    def attributes(self) -> Mapping[Any, object]:
        """What the object would have held by name; empty where it was filled otherwise."""
        state = getattr(self, "state", None)
        return state if isinstance(state, Mapping) else {}


def inert_class(path: str) -> type[Inert]:
    """The class that stands for the one at `path`."""
    return type("Inert", (Inert,), {"path": path})


class StandIn:
    """A function of mien's own in the place of one that a pickle names; it cannot be changed.

    name: of what it stands for. A pickle can set attributes of whatever it names, also of a
    function, and that would outlast its reading.
    """

    __slots__ = ("_call", "name")
    _call: Callable[..., Any]
    name: str

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "_call", call)

    def __call__(self, *given: object) -> Any:
        return self._call(*given)

    def __setattr__(self, key: str, value: object) -> None:
        raise pickle.UnpicklingError("it would change a function")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it would change a function")


class InertUnpickler(pickle.Unpickler):
    """A reader that calls stand-ins only.

    known: by module and name with a dot between, what stands for it. classes: of the names that
    stand for nothing but an `Inert`.

    `load` raises UnpicklingError that names what else the pickle asks for.
    """

    def __init__(
        self, file: IO[bytes], known: Mapping[str, Callable[..., Any]], classes: re.Pattern[str]
    ) -> None:
        super().__init__(file)
        self._known = {
            path: stand if isinstance(stand, type) else StandIn(path, stand)
            for path, stand in known.items()
        }
        self._classes = classes

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of what a pickle names."""
        path = f"{module}.{name}"
        if path in self._known:
            return self._known[path]
        if self._classes.fullmatch(path):
            return inert_class(path)
        raise pickle.UnpicklingError(f"GLOBAL {path}")


class Tensors:
    """The tensors of one file, bounded in what they take together.

    limit: in bytes. what: the file, for messages.
    """

    def __init__(self, limit: int, what: str) -> None:
        self._limit, self._what = limit, what
        self._bytes = self._count = 0

    def rebuilt(self, storage: object, offset: int, size: Any, stride: Any, *_: object) -> Any:
        """Stands for `torch._utils._rebuild_tensor_v2`. Raises ValueError, ModelError."""
        if not isinstance(storage, torch.Tensor):
            raise ValueError("a tensor without values")  # noqa: TRY004 -- of a file
        sides, steps = [int(side) for side in size], [int(step) for step in stride]
        if len(sides) != len(steps) or len(sides) > MOST_RANK or min([offset, *sides, *steps, 0]):
            raise ValueError("a tensor of an odd shape")
        last = offset + sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
        count = torch.Size(sides).numel()
        if count and last >= storage.numel():
            raise ValueError("a tensor that reaches beyond its values")
        self._count += 1
        self._bytes += count * max(4, storage.element_size())
        check_memory(self._bytes, f"reading {self._what}", limit=self._limit, error=ModelError)
        if self._count > MOST_TENSORS:
            raise ValueError(f"more than {MOST_TENSORS} tensors")
        return torch.as_strided(storage, sides, steps, offset)

    def parameter(self, data: object, *_: object) -> object:
        """Stands for `torch._utils._rebuild_parameter`."""
        return data


def nested_storage(content: bytes) -> torch.Tensor:
    """Stands for `torch.storage._load_from_bytes`: a storage that torch.save wrote, flat."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # typed storages are deprecated
        held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not isinstance(held, torch.TypedStorage):
            raise ValueError("a storage that is none")  # noqa: TRY004 -- of a file
        flat: torch.Tensor = torch.empty(0, dtype=held.dtype).set_(held.untyped())  # type: ignore[no-untyped-call]
        return flat


def plain_names() -> dict[str, Callable[..., Any]]:
    """Stand-ins for what any pickle of Python's own values names."""
    known: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": OrderedDict,
        "_codecs.encode": _encoded,
    }
    for module in ("builtins", "__builtin__"):
        known |= {f"{module}.set": set, f"{module}.bytes": _no_bytes}
    return known


def _encoded(text: object, encoding: object) -> bytes:
    """Stands for `codecs.encode`, by which protocol 2 writes bytes. Raises ValueError."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes that are none")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands for `bytes`, by which protocol 2 writes none; with a number it would make as many."""
    return b""


def named_tensors(held: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The tensors in an object and the objects within it, by their names with dots.

    Of torch modules that means their parameters, buffers and modules, of TorchScript's what they
    hold by name. Raises ValueError where objects lie too deep.
    """
    if depth > MOST_DEPTH:
        raise ValueError("objects within objects without an end")
    inner = held.attributes if isinstance(held, Inert) else held
    if not isinstance(inner, Mapping):
        return
    groups = [inner.get(key) for key in ("_parameters", "_buffers", "_modules")]
    found = [group for group in groups if isinstance(group, Mapping)] or [inner]
    for group in found:
        for key, value in group.items():
            if isinstance(value, torch.Tensor):
                yield f"{prefix}{key}", value
            elif isinstance(value, Inert):
                yield from named_tensors(value, f"{prefix}{key}.", depth + 1)
