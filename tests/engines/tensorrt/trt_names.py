"""Which names of TensorRT's Python API a module uses, read from its source."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

NAMES = Path(__file__).parent / "trt_names.json"
FOLDER = Path(__file__).parents[3] / "engines" / "tensorrt"
# The device is pycuda's, which has contexts of its own.
BACKEND = sorted(
    path
    for path in FOLDER.glob("*.py")
    if re.search(r"\btrt\.", path.read_text(encoding="utf-8")) and path.name != "device.py"
)

# What the backend calls its objects of TensorRT, and of which class they are.
RECEIVERS = {
    "builder": "Builder",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "config.get_timing_cache()": "ITimingCache",
    "error": "ParserError",
    "self._runtime": "Runtime",
    "self._engine": "ICudaEngine",
    "self._context": "IExecutionContext",
}


def backend_sources() -> list[str]:
    """The source of each module of the backend that uses TensorRT."""
    return [path.read_text(encoding="utf-8") for path in BACKEND]


def names_by_version() -> dict[str, frozenset[str]]:
    """The names of the API, such as `BuilderFlag.TF32`, by version of the bindings."""
    stated = json.loads(NAMES.read_text(encoding="utf-8"))
    by_version: dict[str, set[str]] = {version: set() for version in stated["versions"]}
    for owner, members in stated["everywhere"].items():
        for names in by_version.values():
            names.update(_joined(owner, member) for member in members.split())
    for owner, members in stated["somewhere"].items():
        for member in members.split():
            name, _, mask = member.partition("=")
            for flag, names in zip(mask, by_version.values(), strict=True):
                if flag == "1":
                    names.add(_joined(owner, name))
    return {version: frozenset(names) for version, names in by_version.items()}


def used_names(source: str) -> set[str]:
    """The names that a module uses: of the module `trt`, of its objects, and those it overrides."""
    tree = ast.parse(source)
    return {*_of_module(tree), *_of_objects(tree), *_overridden(tree)}


def used_receivers(source: str) -> set[str]:
    """Which of RECEIVERS a module calls methods of."""
    attributes = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute))
    return {ast.unparse(node.value) for node in attributes} & RECEIVERS.keys()


def keywords_used(source: str) -> set[tuple[str, str]]:
    """The method and the name of every argument given by name to an object of TensorRT."""
    calls = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call))
    return {
        (f"{RECEIVERS[ast.unparse(call.func.value)]}.{call.func.attr}", keyword.arg)
        for call in calls
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in RECEIVERS
        for keyword in call.keywords
        if keyword.arg is not None
    }


def _joined(owner: str, member: str) -> str:
    return f"{owner}.{member}" if owner else member


def _of_module(tree: ast.AST) -> Iterator[str]:
    """`BuilderFlag` and `BuilderFlag.TF32` of `trt.BuilderFlag.TF32`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, _, name = ast.unparse(node).partition("trt.")
            if root in ("", "self._") and name and not name.startswith("__"):
                yield ".".join(name.split(".")[:2])


def _of_objects(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in RECEIVERS:
            yield f"{RECEIVERS[ast.unparse(node.value)]}.{node.attr}"


def _overridden(tree: ast.AST) -> Iterator[str]:
    """The methods of a class whose base was taken from `trt`: TensorRT calls them by name."""
    bases = {
        target: ast.unparse(node.value).partition("trt.")[2]
        for node in ast.walk(tree)
        for target, node in _assigned(node)
        if node.value is not None and ast.unparse(node.value).startswith("trt.")
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for base in node.bases:
            owner = bases.get(ast.unparse(base))
            methods = (n.name for n in node.body if isinstance(n, ast.FunctionDef))
            if owner is not None:
                yield from (f"{owner}.{name}" for name in methods if not name.startswith("_"))


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.Assign | ast.AnnAssign]]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        yield ast.unparse(node.targets[0]), node
    elif isinstance(node, ast.AnnAssign):
        yield ast.unparse(node.target), node
