"""Who may import whom: the arrows of the design, and no torch in what people run."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("runtime", "engines", "apps", "export", "training", "calibration")
LEAN = ("runtime", "engines", "apps")

# What each room may import of mien besides itself.
ARROWS = {
    "engines": set(),
    "runtime": {"engines"},
    "apps": {"calibration", "runtime", "engines"},
    "export": {"engines"},
    "calibration": {"runtime", "engines"},
    "training": {"export", "runtime", "engines"},
}

# The base install, besides the standard library. NumPy is everyone's.
PACKAGES = {
    "engines": {"numpy", "onnxruntime", "tomllib", "tomli"},  # tomllib is new in Python 3.11
    "runtime": {"numpy", "cv2", "av", "pyvirtualcam", "pillow_heif"},  # both extras: imported late
    "apps": {"numpy", "typer", "rich"},
}

# What the extra `panel` brings, for that folder only, and what makes pictures for browsers.
PANEL = {"starlette", "uvicorn", "h11", "websockets", "aiortc", "cryptography", "av", "cv2"}

# What `mien bench` makes its scenes and its chart with.
SCENES = {"av", "cv2"}

# What the extra `provenance` brings, for its two modules, imported when they are first used.
PROVENANCE = {"c2pa", "cryptography"}

# What the extra `cluster` brings, for its module, imported when a cluster is asked for.
CLUSTER = {"ray"}

# What the extras of links bring, for the folder of these only, whose modules are imported when a
# link of their kind is opened.
LINKS = {"pythonosc", "aiomqtt", "websockets"}

# What the GStreamer element is written against; it is imported by GStreamer's own loader only.
GSTREAMER = {"gi"}

# What mien's own TensorRT backend runs on, for its modules only, imported when they are first used.
TENSORRT = {"tensorrt", "pycuda"}

# Packages of the other rooms, and what they pull in.
HEAVY = (
    "torch",
    "torchvision",
    "onnx",
    "onnxscript",
    "mediapipe",
    "pytest",
    "PIL",
    "tensorrt",
    "pycuda",
)


def _files(*rooms: str) -> list[Path]:
    return sorted(
        path for room in rooms for path in (ROOT / room).rglob("*.py") if "build" not in path.parts
    )


def _imports(path: Path) -> Iterator[str]:
    """Every module a file names in an import, wherever it stands, lazy ones included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import_call(node.func):
            yield from _first_text(node)


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__", "find_spec")


def _first_text(call: ast.Call) -> Iterator[str]:
    if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str):
        yield call.args[0].value


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("mien", *(parts[:-1] if parts[-1] == "__init__" else parts)))


@pytest.mark.parametrize("room", LEAN)
def test_lean_rooms_import_only_the_base_install(room: str) -> None:
    base = PACKAGES[room] | {"mien", "__future__"} | sys.stdlib_module_names

    def allowed(path: Path) -> set[str]:
        extras = {"panel": PANEL, "bench": SCENES, "adapters": LINKS, "python": GSTREAMER}
        extra = extras.get(path.parent.name, set())
        tensorrt = TENSORRT if path.parent == ROOT / "engines" / "tensorrt" else set()
        provenance = PROVENANCE if path.name in ("credential.py", "provenance.py") else set()
        cluster = CLUSTER if path.name == "cluster.py" else set()
        return base | extra | tensorrt | provenance | cluster

    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in _files(room)
        for name in _imports(path)
        if name.split(".")[0] not in allowed(path)
    }
    assert not found


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_run_only_downward(room: str) -> None:
    allowed = ARROWS[room] | {room, "__version__"}
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in _files(room)
        for name in _imports(path)
        if name.split(".")[0] == "mien" and name.count(".") and name.split(".")[1] not in allowed
    }
    assert not found


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_imported_by_their_names_in_mien(room: str) -> None:
    bare = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in _files(room)
        for name in _imports(path)
        if name.split(".")[0] in ROOMS
    }
    assert not bare


def _measured_by_people() -> list[str]:
    """The modules of calibration that a command imports."""
    names = {name.rpartition(".")[0] for path in _files("apps") for name in _imports(path)}
    return sorted(name for name in names if name.startswith("mien.calibration."))


def test_calibration_never_imports_torch() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in _files("calibration")
        for name in _imports(path)
        if name.split(".")[0] in ("torch", "torchvision")
    }
    assert not found


def test_everything_people_run_imports_with_the_heavy_packages_blocked() -> None:
    missing = {name for name in LINKS if importlib.util.find_spec(name) is None} | GSTREAMER
    modules = [
        _module(path)
        for path in _files(*LEAN)
        if path.name != "__main__.py"
        and not missing & {name.split(".")[0] for name in _imports(path)}
    ]
    measured = _measured_by_people()
    assert measured, "a command measures with mien.calibration"
    modules += measured
    program = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({HEAVY!r}))\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_package_root_imports_nothing_else() -> None:
    program = "import sys, mien; print(*[n for n in sys.modules if n.startswith('mien.')])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    "line",
    [
        "import torch",
        "def f():\n    from torch.nn import Module",
        "import importlib\nimportlib.import_module('torch.onnx')",
        "if 0:\n    __import__('torch')",
    ],
)
def test_reader_of_imports_sees_every_way_to_import(tmp_path: Path, line: str) -> None:
    path = tmp_path / "planted.py"
    path.write_text(line)
    assert "torch" in {name.split(".")[0] for name in _imports(path)}


def test_pixel_formats_are_converted_by_one_thread() -> None:
    """swscale 9.5 with three or more slice threads now and then writes wrong samples.

    Seen from RGB and packed 4:2:2 to formats of ten bits (FFmpeg 8.1): 1 to 20 in 400 frames.
    A machine of two cores never shows it, so the calls are looked at rather than run.
    """
    found = {
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in _files(*ROOMS, "tests", "scripts")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        if isinstance(call, ast.Call) and _converts(call)
        if not {"threads", None} & {keyword.arg for keyword in call.keywords}
    }
    assert not found


def _converts(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    by_format = name == "to_ndarray" and any(word.arg == "format" for word in call.keywords)
    return by_format or name in ("reformat", "to_rgb", "to_image")
