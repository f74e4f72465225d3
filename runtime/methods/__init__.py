"""The methods: each a folder that declares what it is and answers what to do to an aligned face.

A folder under `mien.runtime.methods` declares its methods as `METHODS` in its `__init__.py`, which
imports nothing heavy. The command line, the panel, the benchmark, live controls and calibration
read the declarations (`mien.runtime.spec.MethodSpec`) and name no method. What an opened method
does is `mien.runtime.methods.base`. MIEN_METHODS in the environment names further modules with
`METHODS`, parted by commas: methods that live elsewhere.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from types import ModuleType
from typing import Final

from mien.engines.errors import UsageError
from mien.runtime.spec import DEFAULT_METHOD, MethodOption, MethodSpec
from mien.runtime.target import shortened

ELSEWHERE: Final = "MIEN_METHODS"


def method_specs() -> dict[str, MethodSpec]:
    """Every method there is, by name, the default first. Raises UsageError."""
    found: dict[str, MethodSpec] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            found |= _declared(importlib.import_module(f"{__name__}.{module.name}"))
    for name in filter(None, os.environ.get(ELSEWHERE, "").split(",")):
        found |= _declared(_imported(name.strip()))
    return dict(sorted(found.items(), key=lambda item: (item[0] != DEFAULT_METHOD, item[0])))


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"{ELSEWHERE} names {name}, which cannot be imported: {error}") from error


def _declared(module: ModuleType) -> dict[str, MethodSpec]:
    return {spec.name: spec for spec in getattr(module, "METHODS", ())}


def method_spec(name: object) -> MethodSpec:
    """The method of that name. Raises UsageError."""
    specs = method_specs()
    if not isinstance(name, str) or name not in specs:
        raise UsageError(f"unknown method {shortened(name)} (known: {', '.join(specs)})")
    return specs[name]


def method_options() -> dict[str, MethodOption]:
    """What the methods can be told, by name; of a name that several have, the first one's."""
    options: dict[str, MethodOption] = {}
    for spec in method_specs().values():
        for option in spec.options:
            options.setdefault(option.name, option)
    return options
