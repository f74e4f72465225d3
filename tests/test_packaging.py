"""What is built from this tree, and what the README promises about it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import mien

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
ROOMS = ("runtime", "engines", "apps", "export", "training", "calibration")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NOT_COPIED = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "__pycache__", "*.pyc", "work"
)

BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, so that nothing built before gets into what is built here."""
    copy = tmp_path_factory.mktemp("tree") / "mien"
    shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
    return copy


def _build(tree: Path, hook: str) -> Path:
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("setuptools is older than 77, which pyproject.toml needs to build")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, hook, "dist"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tree / "dist" / done.stdout.split()[-1]


def _modules(folder: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*.py")
        if "build" not in path.parts
    }


def test_every_folder_with_modules_is_a_package_of_the_distribution() -> None:
    folders = {Path(file).parent for room in ROOMS for file in _modules(room)}
    expected = {"mien"} | {".".join(("mien", *folder.parts)) for folder in folders}
    expected -= {"mien.apps.sample"}  # data
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == expected


def test_wheel_holds_the_package_with_its_models_and_no_tests(tree: Path) -> None:
    with zipfile.ZipFile(_build(tree, "build_wheel")) as wheel:
        names = set(wheel.namelist())
        metadata = next(n for n in names if n.endswith(".dist-info/METADATA"))
        facts = wheel.read(metadata).decode()
    expected = {f"mien/{file}" for room in ROOMS for file in _modules(room)}
    for folder in ("engines/models", "apps/sample"):
        files = [path for path in (ROOT / folder).iterdir() if path.is_file()]
        expected |= {f"mien/{folder}/{path.name}" for path in files}
    expected |= {"mien/__init__.py", "mien/py.typed"}
    assert expected <= names
    assert {name.split("/")[0] for name in names} == {"mien", f"mien-{mien.__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "License-Expression: Apache-2.0" in facts


def test_base_requirements_pull_no_torch_and_no_compiler(tree: Path) -> None:
    with zipfile.ZipFile(_build(tree, "build_wheel")) as wheel:
        metadata = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        lines = wheel.read(metadata).decode().splitlines()
    required = [line.split(": ")[1] for line in lines if line.startswith("Requires-Dist")]
    base = {re.split(r"[^\w-]", line)[0] for line in required if "extra ==" not in line}
    assert base == {
        "numpy",
        "opencv-python-headless",
        "onnxruntime",
        "av",
        "typer",
        "rich",
        "tomli",
    }


def test_torch_is_pinned_wherever_it_is_asked_for() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    asked = {line for lines in extras.values() for line in lines if line.startswith("torch")}
    assert asked == {"torch==2.13.0"}


def _listed(name: str) -> dict[str, str]:
    """The versions in a file of constraints/; each has hashes."""
    text = (ROOT / f"constraints/linux-py311-{name}.txt").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry) for entry in entries)
    return dict(entry.split(maxsplit=1)[0].split("==") for entry in entries)


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("base", []),
        (
            "dev",
            [
                "dev",
                "camera",
                "panel",
                "heif",
                "provenance",
                "cluster",
                "vmc",
                "mqtt",
                "ros",
                "vts",
                "docs",
            ],
        ),
    ],
)
def test_what_ci_installs_by_hash_is_in_the_ranges_of_the_project(
    name: str, extras: list[str]
) -> None:
    requirements = pytest.importorskip("packaging.requirements")
    listed = _listed(name)
    optional = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"], *(line for e in extras for line in optional[e])]
    if "dev" in extras:
        asked += optional["export"]
    for line in asked:
        wanted = requirements.Requirement(line)
        here = wanted.marker is None or wanted.marker.evaluate({"python_version": "3.11"})
        if here and wanted.name not in ("mien", "torch"):
            assert wanted.specifier.contains(listed[wanted.name]), line
    brought = re.compile(r"(torch|triton|mien)$|nvidia-|cuda-")
    assert not [package for package in listed if brought.match(package)]


def test_the_list_of_the_base_install_is_part_of_the_other() -> None:
    assert _listed("base").items() <= _listed("dev").items()


def test_every_package_that_acts_when_imported_has_a_tested_upper_bound() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    optional = PROJECT["project"]["optional-dependencies"]
    extras = ("export", "gpu", "camera", "panel", "heif", "provenance", "vmc", "mqtt", "ros", "vts")
    shipped = [optional[name] for name in extras]
    for line in [
        *PROJECT["project"]["dependencies"],
        *(line for lines in shipped for line in lines),
    ]:
        specifier = requirements.Requirement(line).specifier
        assert any(part.operator in ("<", "==") for part in specifier), line


def test_source_distribution_builds_the_same_wheel(tree: Path, tmp_path: Path) -> None:
    with tarfile.open(_build(tree, "build_sdist")) as archive:
        for member in archive.getmembers():
            assert not member.name.startswith(("/", ".."))
        archive.extractall(tmp_path) if sys.version_info < (3, 12) else archive.extractall(
            tmp_path, filter="data"
        )
    unpacked = next(tmp_path.iterdir())
    assert (unpacked / "CHANGELOG.md").is_file()
    assert (unpacked / "tests" / "test_packaging.py").is_file()
    with (
        zipfile.ZipFile(_build(unpacked, "build_wheel")) as from_source,
        zipfile.ZipFile(_build(tree, "build_wheel")) as from_tree,
    ):
        assert set(from_source.namelist()) == set(from_tree.namelist())


def test_version_is_the_same_everywhere() -> None:
    assert PROJECT["project"]["version"] == mien.__version__


def test_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_changelog_has_an_unreleased_part() -> None:
    assert "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", ["scripts/check", "scripts/test", "scripts/lock", ".ci/run"])
def test_scripts_can_be_run(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], "-m pytest -m not slow and not cluster"),
        (["--all"], "-m pytest -m not cluster"),
        (["--all", "-x"], "-m pytest -m not cluster -x"),
        (["--cluster"], "-m pytest -m cluster"),
        (["tests/engines", "-k", "catalog"], "-m pytest tests/engines -k catalog"),
    ],
)
def test_the_quick_tests_run_without_arguments_and_all_with_one(
    arguments: list[str], given: str
) -> None:
    command = [str(ROOT / "scripts" / "test"), *arguments]
    environment = os.environ | {"PYTHON": "echo"}
    ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert ran.stdout == f"{given}\n"


@pytest.mark.parametrize(
    ("docstring", "returns", "is_wrong"),
    [
        ("Close the networks.", "None", False),
        ("Nothing; gives the networks back.", "None", True),
        ("Closes the networks.", "None", True),
        ("The networks.", "None", True),
        ("The networks that were closed.", "int", False),
    ],
)
def test_the_docstring_of_a_procedure_says_what_it_does(
    tmp_path: Path, docstring: str, returns: str, is_wrong: bool
) -> None:
    file = tmp_path / "close.py"
    file.write_text(f'def close() -> {returns}:\n    """{docstring}"""\n')
    command = [sys.executable, str(ROOT / "scripts" / "check_docstrings.py"), str(file)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ran.returncode == is_wrong, ran.stderr
    assert (f"{file}:2: say what close does" in ran.stdout) is is_wrong


COMMANDS = {
    "edit": "pip install . && python apps/video_edit.py in.mp4 --emotion happy",
    "test": "pip install -e '.[dev]' && scripts/test --all",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_readme_gives_the_command_that_ci_runs(name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"<!-- command: {name} -->\n```sh\n(.*?)\n```", readme, re.DOTALL)
    assert blocks == [COMMANDS[name]]
    assert f"command {name}" in (ROOT / ".ci/run").read_text(encoding="utf-8")
