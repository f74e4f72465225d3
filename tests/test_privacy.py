"""What mien's users are promised: nothing leaves the machine, nothing is written in secret."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import site
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("runtime", "engines", "apps", "export", "training", "calibration", "package")
PICTURE = str(ROOT / "apps/sample/portrait.jpg")
CLIP = str(ROOT / "apps/sample/sample.mp4")
FOLDERS = {
    "home": ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA"),
    "temporary": ("TMPDIR", "TEMP", "TMP"),
}
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
NO_NAMESPACE = 77
WATCHED_S = 22  # ONNX Runtime 1.32 first looks for its vendor's host 9 s after it is imported
SENT = ("IpOutRequests", "IpOutNoRoutes", "Ip6OutRequests", "Ip6OutNoRoutes")

COMMAND = "from mien.apps.main import run; sys.exit(run([{}]))"
LIBRARY = """
import cv2
from mien.runtime import Filter
with Filter("happy") as change:
    change(cv2.imread(picture), 0.0)
"""
WORK = """
from mien.engines import WARP, Catalog
from mien.engines.ort.work import work_of
work_of(Catalog.bundled().entry(WARP).path, WARP)
"""
INT8 = """
from mien.engines.ort.providers import import_onnxruntime
import_onnxruntime("onnxruntime.quantization")
"""
# Programs, and what each of them writes.
PROGRAMS = {
    "edit": (COMMAND.format("'edit', picture, '-o', 'out.jpg', '--emotion', 'happy'"), "out.jpg"),
    "camera": (
        COMMAND.format(
            "'camera', '--source', clip, '--emotion', 'sad', '--seconds', '3', '--no-virtual', "
            "'--port', '0', '--record', 'out.mp4'"
        ),
        "out.mp4",
    ),
    "library": (LIBRARY, None),
    "work": (WORK, None),
    "INT8": (INT8, None),
}


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """An environment of empty folders under the test's own, without what was set for tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != NO_TELEMETRY and not name.startswith("XDG_")
    }
    for folder, names in FOLDERS.items():
        (tmp_path / folder).mkdir()
        kept |= dict.fromkeys(names, str(tmp_path / folder))
    (tmp_path / "work").mkdir()
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUSERBASE": site.getuserbase()}


@pytest.mark.parametrize("what", PROGRAMS)
def test_nothing_is_written_but_the_output(
    what: str, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    if what == "INT8":
        pytest.importorskip("onnx")
    program, output = PROGRAMS[what]
    given = "import sys; picture, clip = sys.argv[1:]; "
    done = subprocess.run(
        [sys.executable, "-c", given + program, PICTURE, CLIP],
        cwd=tmp_path / "work",
        env=elsewhere,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert found == {*FOLDERS, "work"} | ({f"work/{output}"} if output else set())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_nothing_is_sent_in_twenty_seconds_of_edits(
    elsewhere: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tests.test_privacy as t; t.edit_in_a_network_of_its_own()"],
        cwd=tmp_path / "work",
        env=elsewhere,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode == NO_NAMESPACE:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == dict.fromkeys(SENT, 0)


def edit_in_a_network_of_its_own() -> None:
    """Edit a picture and live video where there is no network; print what was tried to be sent.

    The namespace has the loopback alone and no route: whatever is sent to this machine, a resolver
    on it included, is counted as a packet, and whatever is for another as one without a route.
    """
    _enter_a_network_namespace()
    before = _sent()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried,
        contextlib.suppress(OSError),
    ):
        tried.sendto(b"", ("192.0.2.1", 9))
    if _sent() == before:
        _give_up("this kernel does not count what finds no route")
    before = _sent()

    from mien.apps.main import run

    status = run(["edit", PICTURE, "-o", "out.jpg", "--emotion", "happy"])
    live = ["--seconds", str(WATCHED_S), "--rate", "5", "--no-virtual", "--record", "out.mp4"]
    status = status or run(["camera", "--source", CLIP, "--emotion", "sad", *live])
    after = _sent()
    print(json.dumps({name: after[name] - before[name] for name in SENT}))
    sys.exit(status)


def _enter_a_network_namespace() -> None:
    # A user namespace, which who is not root needs, is for processes of one thread: so this comes
    # before NumPy is imported.
    import ctypes
    import fcntl
    import struct

    network, user = 0x40000000, 0x10000000  # CLONE_NEWNET, CLONE_NEWUSER
    unshare = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
    if unshare is None or (unshare(network) != 0 and unshare(network | user) != 0):
        reason = os.strerror(ctypes.get_errno()) if unshare else "no unshare"
        _give_up(f"no network namespace can be made here: {reason}")
    set_flags, up = 0x8914, 0x1  # SIOCSIFFLAGS, IFF_UP
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, set_flags, struct.pack("16sh22x", b"lo", up))
    except OSError as error:
        _give_up(f"the loopback of a network namespace does not start here: {error.strerror}")


def _sent() -> dict[str, int]:
    """How often this namespace was asked to send, by the kernel's counters."""
    counts = {}
    lines = Path("/proc/net/snmp").read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        kind, *fields = names.replace(":", "").split()
        counts |= {
            kind + field: int(value)
            for field, value in zip(fields, values.split()[1:], strict=True)
        }
    six = Path("/proc/net/snmp6")  # not there where IPv6 is switched off
    if six.exists():
        counts |= {name: int(value) for name, value in map(str.split, six.read_text().splitlines())}
    return {name: counts.get(name, 0) for name in SENT}


def _give_up(reason: str) -> None:
    print(reason)
    sys.exit(NO_NAMESPACE)


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("", "1"), ("1", "1"), ("0", "0")])
def test_telemetry_is_off_unless_the_user_has_chosen(
    monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    from mien.engines.ort.providers import import_onnxruntime

    monkeypatch.delenv(NO_TELEMETRY, raising=False)
    if given is not None:
        monkeypatch.setenv(NO_TELEMETRY, given)
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    assert import_onnxruntime() is sys.modules["onnxruntime"]
    assert os.environ[NO_TELEMETRY] == expected


def test_importing_mien_chooses_nothing_for_the_program_that_does() -> None:
    program = (
        "import os, sys, mien, mien.engines, mien.runtime\n"
        f"sys.exit({NO_TELEMETRY!r} in os.environ or 'onnxruntime' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != NO_TELEMETRY}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def _other_ways(text: str) -> Iterator[str]:
    """The lines of a module that import ONNX Runtime, by itself or in a program's text."""
    tree = ast.parse(text)
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) not in for_types and _imports_onnxruntime(node):
            yield ast.unparse(node)[:80]


def _imports_onnxruntime(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(_is_onnxruntime(alias.name) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return _is_onnxruntime(node.module or "")
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return "import onnxruntime" in node.value or "from onnxruntime" in node.value
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = ast.unparse(node.func).rpartition(".")[2]
        module = str(node.args[0].value)
        if name == "find_spec":  # of a package without importing it; of its modules it imports it
            return module.startswith("onnxruntime.")
        return name in ("import_module", "__import__", "run_module") and _is_onnxruntime(module)
    return False


def _is_onnxruntime(module: str) -> bool:
    return module.partition(".")[0] == "onnxruntime"


def test_onnxruntime_is_imported_with_its_telemetry_off_only() -> None:
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(files) > 100
    found = {
        f"{path.relative_to(ROOT)}: {line}"
        for path in files
        for line in _other_ways(path.read_text(encoding="utf-8"))
    }
    assert not found, "import_onnxruntime of mien.engines.ort.providers is the way"


@pytest.mark.parametrize(
    "line",
    [
        "import onnxruntime",
        "def f():\n    from onnxruntime.quantization import quantize_static",
        "import importlib\nimportlib.import_module('onnxruntime.tools')",
        "if 0:\n    __import__('onnxruntime')",
        "PROGRAM = '''import sys\nimport onnxruntime as ort'''",
        "importlib.util.find_spec('onnxruntime.capi')",
    ],
)
def test_no_way_around_is_missed(line: str) -> None:
    assert list(_other_ways(line))
