"""The TensorRT backend against the real Python bindings, without TensorRT's libraries or a GPU.

The bindings load three libraries and take nine functions from them. Libraries whose functions
answer nothing let them be imported, so that names, signatures and subclasses are the real ones.
Nothing of TensorRT can be run that way.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.engines.tensorrt.trt_names import backend_sources, keywords_used, used_names

WHEELS = {"10.3.0": "tensorrt-cu12-bindings", "11.4.0.106": "tensorrt-cu13-bindings"}
STUBS = {
    "nvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getPluginRegistry",
        "getBuilderPluginRegistry",
    ),
    "nvonnxparser": (
        "createNvOnnxParser_INTERNAL",
        "createNvOnnxParserRefitter_INTERNAL",
        "getNvOnnxParserVersion",
    ),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
}
PROGRAM = """
import json, sys
import tensorrt_bindings as trt
sys.modules["tensorrt"] = trt
from mien.engines.tensorrt.backend import _monitor
from mien.engines.tensorrt.device import load_tensorrt
from mien.engines.tensorrt.runner import TensorRTLog
assert load_tensorrt() is trt

def has(name):
    place = trt
    for part in name.split("."):
        if not hasattr(place, part):
            return False
        place = getattr(place, part)
    return True

def takes(method, keyword):
    place = trt
    for part in method.split("."):
        place = getattr(place, part)
    return keyword in (place.__doc__ or "")

names, keywords = json.loads(sys.stdin.read())
TensorRTLog(trt).logger.log(trt.ILogger.ERROR, "a message")
monitor = _monitor(trt, None)
print(json.dumps({
    "version": trt.__version__,
    "missing": [name for name in names if not has(name)],
    "refused": [pair for pair in keywords if not takes(*pair)],
    "monitor": isinstance(monitor, trt.IProgressMonitor),
}))
"""

pytestmark = [pytest.mark.slow, pytest.mark.network]


def _wheel(version: str, folder: Path) -> Path:
    """The bindings' wheel, unpacked; skips where the package index has none for this Python."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--retries", "0", "--timeout", "15", "--disable-pip-version-check"]
    command += ["--dest", str(folder), f"{WHEELS[version]}=={version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the package index does not answer within two minutes")
    found = list(folder.glob("*.whl"))
    if done.returncode or not found:
        reason = done.stderr.strip().splitlines()[-1:] or ["pip says nothing"]
        pytest.skip(f"no {WHEELS[version]} {version} for this Python: {reason[0]}")
    with zipfile.ZipFile(found[0]) as wheel:
        wheel.extractall(folder / "wheel")
    return folder / "wheel"


def _stubs(version: str, folder: Path) -> Path:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("there is no C compiler for the libraries without content")
    folder.mkdir()
    for name, functions in STUBS.items():
        source = folder / f"{name}.c"
        lines = [f"void *{function}(void) {{ return 0; }}" for function in functions]
        source.write_text("\n".join(lines))
        library = folder / f"lib{name}.so.{version.split('.', maxsplit=1)[0]}"
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{library.name}"]
        subprocess.run([*command, "-o", str(library), str(source)], check=True)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="the wheels and libraries are those of Linux")
@pytest.mark.parametrize("version", WHEELS)
def test_backend_imports_with_the_real_bindings(version: str, tmp_path: Path) -> None:
    wheel, stubs = _wheel(version, tmp_path), _stubs(version, tmp_path / "stubs")
    sources = backend_sources()
    names = sorted({name for source in sources for name in used_names(source)})
    keywords = sorted({pair for source in sources for pair in keywords_used(source)})
    paths = [str(wheel), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([names, keywords]),
        env=os.environ
        | {"LD_LIBRARY_PATH": str(stubs), "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"version": version, "missing": [], "refused": [], "monitor": True}
    assert len(names) > 30
