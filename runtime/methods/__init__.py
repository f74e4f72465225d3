"""The methods: each module answers what to do to one aligned face.

A module `mien.runtime.methods.NAME` offers `open_method(catalog, provider, options) -> Method`;
nothing else has to know of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mien.engines import Catalog
from mien.engines.errors import UsageError
from mien.runtime.blending.edit import Edit
from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.frame import Frame
from mien.runtime.target import Target


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """What some methods can be told; None is the method's own choice.

    gan: which kind of generator, `stargan` or `cyclegan`. blend: `field` or `paste`.
    """

    gan: str | None = None
    blend: str | None = None


class FaceEditor(Protocol):
    """Edits one face through a video; it holds what is remembered of that face.

    left_alone: parts that the last frame does not show and that are therefore as they were.
    own: set before a call: how much of the person's own expression to show, 1 for all of it.
    """

    left_alone: tuple[str, ...]
    own: float

    def __call__(
        self, frame: Frame, face: AlignedFace, weights: np.ndarray, strength: float, time_s: float
    ) -> Edit:
        """The edit of the face in this frame.

        weights: float32 (8,), a weight per emotion. strength: 0..1.5. time_s: grows from call to
        call.
        """
        ...


class Method(Protocol):
    """A way to change expressions.

    crop_size: pixels a side of the aligned crop it looks at.
    providers: which provider runs each of its networks.
    """

    @property
    def crop_size(self) -> int: ...

    @property
    def providers(self) -> dict[str, str]: ...

    @property
    def scales_own(self) -> bool:
        """Whether it can show more or less of a person's own expression."""
        ...

    def check_target(self, target: Target) -> None:
        """Nothing, where the method can reach it. Raises UsageError."""
        ...

    def new_face(self) -> FaceEditor:
        """An editor for a face that has just appeared."""
        ...

    def close(self) -> None:
        """Nothing; gives the networks back."""
        ...


def method_names() -> tuple[str, ...]:
    """The names of the methods there are."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def open_method(
    name: str, catalog: Catalog, *, provider: str, options: MethodOptions | None = None
) -> Method:
    """The method of that name with its networks loaded.

    Raises UsageError, ModelError, DeviceError.
    """
    if name not in method_names():
        raise UsageError(f"unknown method {name!r} (known: {', '.join(method_names())})")
    module = importlib.import_module(f"{__name__}.{name}")
    options = options or MethodOptions()
    method: Method = module.open_method(catalog, provider=provider, options=options)
    return method
