"""What a method is and what a filter is made of, as plain values: nothing heavy is imported."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from mien.engines.errors import UsageError
from mien.runtime.target import finite_number, shortened

if TYPE_CHECKING:
    from mien.engines import Catalog
    from mien.runtime.methods.base import Method

DEFAULT_METHOD: Final = "warp"
PRECISIONS: Final = ("auto", "fp32", "int8")
OptionValue = str | int | float


@dataclass(frozen=True, slots=True)
class MethodOption:
    """Something a method can be told: `--NAME VALUE` of the commands, a keyword of `Filter`.

    help: one line. values: the words it may be, the method's own choice first. For a number
    `kind` is int or float, `bounds` the least and the most, both allowed, and `default` its value.
    chooses: numbers that make the method open other networks, for what tries every network.
    """

    name: str
    help: str
    values: tuple[str, ...] = ()
    kind: type[str | int | float] = str
    bounds: tuple[float, float] | None = None
    default: OptionValue | None = None
    chooses: tuple[int | float, ...] = ()

    @property
    def choice(self) -> OptionValue | None:
        """What the method takes where it is not told."""
        return self.values[0] if self.values else self.default

    @property
    def metavar(self) -> str:
        """What may be given, for the help."""
        if self.values:
            return "|".join(self.values)
        if self.bounds is None:
            return {str: "TEXT", int: "N", float: "X"}[self.kind]
        return f"{self.bounds[0]:g}..{self.bounds[1]:g}"

    def checked(self, value: object) -> OptionValue:
        """`value`, as text or as it is, as the option's own kind. Raises UsageError."""
        if self.kind is str:
            if not isinstance(value, str):
                raise UsageError(f"{self.name} is a word, not {shortened(value)}")
            if self.values and value not in self.values:
                known = ", ".join(self.values)
                raise UsageError(f"unknown {self.name} {value!r} (known: {known})")
            return value
        return self._number(value)

    def _number(self, value: object) -> OptionValue:
        try:
            number = finite_number(float(value) if isinstance(value, str) else value)
        except ValueError:
            number = None
        if number is None or (self.kind is int and number != int(number)):
            kind = "a whole number" if self.kind is int else "a number"
            raise UsageError(f"{self.name} is {kind}, not {shortened(value)}")
        if self.bounds is not None and not self.bounds[0] <= number <= self.bounds[1]:
            least, most = self.bounds
            raise UsageError(f"{self.name} lies in {least:g}..{most:g}, not {shortened(value)}")
        return int(number) if self.kind is int else number


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """What a method is, without its networks.

    name: of `--method`. help: one line. opener: `module:function`, which is imported when the
    method is opened: `function(catalog, provider, options) -> Method`, options complete. networks:
    the names of those it opens, `{option}` in them filled in by what it is told, or a function from
    what it is told to names. options: what it
    can be told. scales_own: whether it can show more or less of a person's own expression.
    takes_prompt: whether it heeds the words of a target. makes_faces: whether it is a source of
    faces, and no filter of those that are there. edits_by: options of which each is an edit by
    itself, so that no emotion need be asked for beside it.
    shown_alone: `module:function` by network: `function(engine, frame, face)` shows it one face
    without the rest of the method, for calibration.
    """

    name: str
    help: str
    opener: str
    networks: tuple[str, ...] | Callable[[Mapping[str, OptionValue]], tuple[str, ...]] = ()
    options: tuple[MethodOption, ...] = ()
    scales_own: bool = False
    takes_prompt: bool = False
    makes_faces: bool = False
    edits_by: tuple[str, ...] = ()
    shown_alone: tuple[tuple[str, str], ...] = ()

    def networks_for(self, options: Mapping[str, object]) -> tuple[str, ...]:
        """The networks it opens where it is told that. Raises UsageError."""
        told = self.checked(options)
        if callable(self.networks):
            return self.networks(told)
        return tuple(network.format(**told) for network in self.networks)

    def checked(self, options: Mapping[str, object]) -> dict[str, OptionValue]:
        """What it is told, complete and checked; None is its own choice. Raises UsageError."""
        known = {option.name: option for option in self.options}
        for name, value in options.items():
            if value is not None and name not in known:
                which = f"it has {', '.join(known)}" if known else "it has none"
                raise UsageError(
                    f"the method {self.name} has no option {name}; leave {name} out ({which})"
                )
        given = {name: value for name, value in options.items() if value is not None}
        told: dict[str, OptionValue] = {}
        for option in self.options:
            value = given.get(option.name, option.choice)
            if value is not None:
                told[option.name] = option.checked(value)
        return told

    def open(self, catalog: Catalog, provider: str, options: Mapping[str, object]) -> Method:
        """The method with its networks loaded. Raises UsageError, ModelError, DeviceError."""
        told = MappingProxyType(self.checked(options))
        opened: Method = named_function(self.opener)(catalog, provider, told)
        return opened


def named_function(place: str) -> Callable[..., Any]:
    """The function of `module:function`, imported now."""
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


@dataclass(frozen=True, slots=True)
class FilterSpec:
    """What a filter is made of, before anything is opened.

    method: a name of `mien.runtime.methods`. options: what it is told beside its own choices, pairs
    of name and value. face: `all`, `largest`, or the number of one. provider: what runs the
    networks. models: a folder of models of the user's own, as `Catalog.load` takes it.
    precision: of PRECISIONS, of the networks on a processor.
    """

    method: str = DEFAULT_METHOD
    options: tuple[tuple[str, OptionValue], ...] = ()
    face: str | int = "all"
    provider: str = "cpu"
    models: Path | None = None
    precision: str = "auto"

    @property
    def told(self) -> dict[str, Any]:
        """The options as keywords of `Filter`."""
        return dict(self.options)

    @property
    def words(self) -> list[str]:
        """The method and what it is told as options of the commands."""
        told = (word for name, value in self.options for word in (f"--{name}", str(value)))
        return ["--method", self.method, *told]
