from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from mien.engines.ort.providers import Provider, install_line
from mien.engines.system.install import (
    BOUNDS,
    BUILDS,
    bounds,
    extras_line,
    packages_line,
    quoted,
    reinstall_line,
    stated_origin,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]
WHEEL = '{"url": "file:///tmp/mien-0.1.0-py3-none-any.whl", "archive_info": {}}'
INDEX_LINE = "pip install 'mien[camera,panel]'"


def origin_of(folder: Path, *, editable: bool = False) -> str:
    stated = {"url": folder.as_uri(), "dir_info": {"editable": True} if editable else {}}
    return json.dumps(stated)


@pytest.mark.skipif(sys.platform == "win32", reason="another shell, with other quotes")
def test_extras_are_added_to_mien_as_it_is_installed(tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    where = f"'{clone}[camera,panel]'"
    assert extras_line("camera,panel", origin_of(clone)) == f"pip install {where}"
    line = extras_line("camera,panel", origin_of(clone, editable=True))
    assert line == f"pip install -e {where}"
    assert shlex.split(line)[-1] == f"{clone}[camera,panel]"
    for origin in (WHEEL, "", "{", "[]", '{"url": 3}', origin_of(tmp_path / "gone")):
        assert extras_line("camera,panel", origin) == INDEX_LINE


def test_the_bounds_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    asked = {}
    for text in [*project["dependencies"], *(line for lines in extras for line in lines)]:
        name, versions = re.match(r"([A-Za-z0-9-]+)(?:\[.*?\])?([^;]*)", text).groups()
        asked[name] = versions.strip()
    assert {name: asked[name] for name in BOUNDS} == BOUNDS
    assert all(bounds(build) == BOUNDS[plain] for build, plain in BUILDS.items())


@pytest.mark.parametrize("provider", list(Provider))
def test_every_wheel_of_onnx_runtime_is_bounded(provider: Provider) -> None:
    for system, machine in (("linux", "x86_64"), ("win32", "AMD64"), ("darwin", "arm64")):
        line = install_line(provider, system, machine)
        assert "pip install" not in line or "<1.33" in line.rpartition("pip install")[2]


@pytest.mark.skipif(sys.platform == "win32", reason="another shell, with other quotes")
def test_what_a_shell_would_take_apart_is_quoted() -> None:
    assert packages_line("onnxruntime-gpu") == "pip install 'onnxruntime-gpu>=1.20,<1.33'"
    assert packages_line("av", options="--no-deps") == "pip install --no-deps 'av>=17.1,<19'"
    assert quoted("plain") == "plain"


def test_windows_takes_double_quotes() -> None:
    assert quoted("mien[camera]", "win32") == '"mien[camera]"'
    assert quoted(r"C:\me\mien", "win32") == r"C:\me\mien"
    assert quoted("onnx>=1.16,<2", "win32") == '"onnx>=1.16,<2"'


def test_no_line_in_code_or_docs_installs_what_is_unquoted_or_unbounded() -> None:
    names = "|".join(sorted([*BOUNDS, *BUILDS], key=len, reverse=True))
    bare = re.compile(rf"pip install (?:-\S+ )*(?:[\w-]+ )*(?:{names})(?![\w>=<'-])")
    bracket = re.compile(r"pip install (?:-\w )?(?![\"'])[\w./]*\[")
    folders = ("apps", "calibration", "docs", "engines", "export", "runtime", "training")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.*")]
    texts = [file for file in (*files, ROOT / "README.md") if file.suffix in (".py", ".md")]
    wrong = [
        f"{file.relative_to(ROOT)}: {found[0]}"
        for file in texts
        for pattern in (bare, bracket)
        for found in pattern.finditer(file.read_text(encoding="utf-8"))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        (None, "pip install --force-reinstall --no-deps mien"),
        ("{", "pip install --force-reinstall --no-deps mien"),
        (
            '{"url": "file:///home/a%20b/mien", "dir_info": {}}',
            "pip install --force-reinstall --no-deps '/home/a b/mien'",
        ),
        (
            '{"url": "file:///home/me/mien", "dir_info": {"editable": true}}',
            "git -C /home/me/mien checkout -- engines/models",
        ),
        (
            '{"url": "https://host/mien.whl", "archive_info": {}}',
            "pip install --force-reinstall --no-deps https://host/mien.whl",
        ),
    ],
)
def test_model_that_is_damaged_comes_from_where_mien_came_from(
    origin: str | None, line: str
) -> None:
    assert reinstall_line(origin) == line


def test_the_origin_of_this_mien_is_read() -> None:
    origin = stated_origin()
    assert origin is None or "url" in json.loads(origin)
