from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mien.apps.bench.run import time_command
from mien.apps.main import _why_auto, run
from mien.engines import Catalog, MienError, ModelError
from mien.engines.catalog import BUNDLED_FOLDER, joined_folders, read_catalog, write_catalog
from mien.engines.ort.providers import Provider
from mien.runtime.filter import Filter

Captured = pytest.CaptureFixture[str]


def folder_of(path: Path, *networks: str, name: str = "own") -> Path:
    """A folder with copies of the bundled models of some networks, called `name`."""
    path.mkdir()
    entries = [entry for entry in read_catalog(BUNDLED_FOLDER) if entry.network in networks]
    for entry in entries:
        shutil.copy(entry.path, path / entry.file)
        (path / entry.card).touch()
    told = tuple(
        replace(entry, name=f"{name}-{entry.network}", folder=path, licence="MIT")
        for entry in entries
    )
    write_catalog(path, told)
    return path


def test_of_several_folders_the_first_counts_most(tmp_path: Path) -> None:
    first = folder_of(tmp_path / "a", "warp", name="first")
    second = folder_of(tmp_path / "b", "warp", "occlusion", name="second")
    both = joined_folders([first, second])
    assert both is not None
    catalog = Catalog.load(both)
    names = {entry.network: entry.name for entry in catalog.entries}
    assert (names["warp"], names["occlusion"]) == ("first-warp", "second-occlusion")
    assert len(names) == len(Catalog.bundled().entries)
    assert joined_folders([]) is None
    with Filter(None, models=[first, str(second)]) as opened:
        assert opened.providers["warp"] == "cpu"
    with pytest.raises(ModelError, match=r"catalog\.toml"):
        Catalog.load(joined_folders([first, tmp_path / "gone"]) or "")


@pytest.mark.skipif(os.pathsep != ":", reason="a colon is no part of a name there")
def test_a_folder_with_a_colon_in_its_name_is_one_folder(tmp_path: Path) -> None:
    assert Catalog.load(folder_of(tmp_path / "a:b", "warp")).entry("warp").name == "own-warp"


def test_every_command_takes_models_several_times(tmp_path: Path, capsys: Captured) -> None:
    first = folder_of(tmp_path / "a", "warp")
    second = folder_of(tmp_path / "b", "occlusion")
    own = ["--models", str(first), "--models", str(second)]
    assert run(["models", *own]) == 0
    said = capsys.readouterr().out
    assert "own-warp" in said
    assert "own-occlusion" in said
    assert run(["export-triton", str(tmp_path / "served"), *own]) == 0
    assert "Left out: the generators and the parser" in capsys.readouterr().out
    for command in ("edit", "camera", "bench", "doctor", "build", "calibrate"):
        assert run([command, "--help"]) == 0
        assert "may be" in capsys.readouterr().out.partition("--models")[2]


def test_a_calibrated_model_told_by_its_path_keeps_its_licence(tmp_path: Path) -> None:
    folders = pytest.importorskip("mien.calibration.precision.folder")
    own = folder_of(tmp_path / "a", "warp")
    file = own / next(entry.file for entry in read_catalog(own))
    assert folders.entry_of(file).licence == "MIT"
    lonely = tmp_path / "lonely.onnx"
    shutil.copy(file, lonely)
    assert folders.entry_of(lonely).licence == folders.UNTOLD
    other = own / "other.onnx"
    shutil.copy(file, other)
    assert folders.entry_of(other).licence == folders.UNTOLD


def test_the_audit_and_calibration_need_no_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not here')")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    for program in (
        "from mien.apps.main import run; sys.exit(run(['audit', sys.argv[1]]))",
        "import mien.calibration.precision.folder",
    ):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys; {program}",
                str(BUNDLED_FOLDER / "occlusion.onnx"),
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "torch" not in done.stderr


def test_auto_says_why_it_took_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.engines.ort import backend as onnx_runtime

    for there, where, said in (
        ((Provider.CPU,), "cpu", "has nothing else"),
        ((Provider.CUDA, Provider.CPU), "cuda", "it works, and comes first of cuda, cpu"),
        ((Provider.CUDA, Provider.CPU), "cpu", "cuda cannot be used here"),
        ((Provider.CPU,), "tensorrt", "plans are built"),
    ):
        monkeypatch.setattr(onnx_runtime, "available_providers", lambda there=there: there)
        assert said in _why_auto(where)


def test_a_command_that_fails_while_it_is_timed_is_told_once(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.mp4")
    with pytest.raises(MienError) as raised:
        time_command(["edit", gone, "--emotion", "happy"])
    assert str(raised.value) == f"mien edit failed while it was timed: no such file: {gone}"
