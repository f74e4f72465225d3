"""`mien build` with a device that is not there."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from mien.apps.main import run
from mien.apps.models.build import BuildJob, OpenSource, run_build, time_left
from mien.engines import Catalog, DeviceError, ModelError, UsageError
from mien.engines.catalog import write_catalog
from mien.engines.tensorrt.builder import BuildProgress
from mien.engines.tensorrt.engine import PlanModel, PlanSource
from mien.engines.tensorrt.plan_files import DeviceFacts, PlanSidecar
from mien.engines.tensorrt.plans import PlanCache
from tests.engines.tensorrt.fake_builder import FAKE_DEVICE, FakePlanBuilder

OTHER = DeviceFacts("11.4.0", 13, "8.9", "Another", "Linux", "x86_64")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "builds"


@pytest.fixture
def fake(log: Path) -> OpenSource:
    return lambda _: PlanSource(FakePlanBuilder(log=log), PlanCache())


def test_plans_of_the_default_filter_are_built_once(
    fake: OpenSource, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_build(BuildJob(open_source=fake)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["detector", "landmarks", "warp", "occlusion"]
    assert all("built (there is no plan yet), on fake-plan" in line for line in lines)
    assert run_build(BuildJob(open_source=fake)) == 0
    assert capsys.readouterr().out.count("was built already") == 4
    assert len(log.read_text().splitlines()) == 8


def test_named_networks_are_built(fake: OpenSource, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_build(BuildJob(("occlusion", "warp", "occlusion"), open_source=fake)) == 0
    names = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["occlusion", "warp"]
    with pytest.raises(ModelError, match="the catalog has no model for the network 'nose'"):
        run_build(BuildJob(("nose",), open_source=fake))


def test_plan_that_finds_no_room_is_an_error_of_a_build_ahead(
    fake: OpenSource, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run_build(BuildJob(("warp",), open_source=fake)) == 2
    error = capsys.readouterr().err
    assert "No space left on device; make room" in error
    assert error.count("\n") == 1


def test_list_shows_each_plan_and_what_is_wrong_with_it(
    fake: OpenSource, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run_build(BuildJob(("occlusion", "warp"), open_source=fake))
    (plan,) = PlanCache().path.glob("occlusion-*.plan")
    plan.write_bytes(b"x")
    capsys.readouterr()
    assert run_build(BuildJob(), show_list=True) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "warp fp32 10.3.0 Fake (SM 8.7)" in out
    assert "damaged" in out
    assert f"plans lie in {PlanCache().path}" in out.replace("\n", "")


def source_of(facts: DeviceFacts) -> OpenSource:
    return lambda _: PlanSource(FakePlanBuilder(facts=facts), PlanCache())


def built_for() -> list[str]:
    """What the plans of the cache are of: network, TensorRT and GPU."""
    plans = [state.sidecar.identity for state in PlanCache().states() if state.sidecar]
    return sorted(f"{plan.network} {plan.device.tensorrt} {plan.device.gpu}" for plan in plans)


def test_prune_removes_what_nothing_can_use_any_more(
    fake: OpenSource, capsys: pytest.CaptureFixture[str]
) -> None:
    run_build(BuildJob(("warp", "occlusion"), open_source=fake))
    run_build(BuildJob(("warp",), open_source=source_of(OTHER)))
    run_build(BuildJob(("warp",), open_source=source_of(replace(FAKE_DEVICE, tensorrt="10.1.0"))))
    next(PlanCache().path.glob("occlusion-*.plan")).write_bytes(b"x")
    capsys.readouterr()
    assert run_build(BuildJob(open_source=fake), prune=True) == 0
    assert built_for() == ["warp 10.3.0 Fake", "warp 11.4.0 Another"]
    out = capsys.readouterr().out
    # two plans, and the timing cache of the older TensorRT
    assert "3 removed, 2 plans left" in out
    assert "1 of them are of other GPUs or models; --all removes those too" in out


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a warp model of one's own."""
    own = tmp_path / "own"
    own.mkdir()
    entry = Catalog.bundled().entry("warp")
    model = onnx.load(str(entry.path))
    model.doc_string = "of one's own"
    (own / "warp.onnx").write_bytes(model.SerializeToString())
    sha256 = hashlib.sha256((own / "warp.onnx").read_bytes()).hexdigest()
    write_catalog(own, (replace(entry, file="warp.onnx", sha256=sha256, folder=own),))
    return own


def test_prune_of_one_folder_s_models_keeps_those_of_another(fake: OpenSource, own: Path) -> None:
    run_build(BuildJob(("warp",), models=own, open_source=fake))
    run_build(BuildJob(("warp",), open_source=fake))
    assert run_build(BuildJob(open_source=fake), prune=True) == 0
    assert built_for() == ["warp 10.3.0 Fake"] * 2
    assert run_build(BuildJob(open_source=fake), prune=True, every=True) == 0
    assert built_for() == ["warp 10.3.0 Fake"]


def test_prune_of_all_leaves_this_gpu_its_own(fake: OpenSource) -> None:
    run_build(BuildJob(("warp",), open_source=fake))
    run_build(BuildJob(("warp",), open_source=source_of(OTHER)))
    assert run_build(BuildJob(open_source=fake), prune=True, every=True) == 0
    assert built_for() == ["warp 10.3.0 Fake"]


def test_prune_without_tensorrt_keeps_the_plans_of_every_device(fake: OpenSource) -> None:
    run_build(BuildJob(("warp",), open_source=fake))

    def missing(_: int) -> PlanSource:
        raise DeviceError("none")

    assert run_build(BuildJob(open_source=missing), prune=True) == 0
    assert len(PlanCache().states()) == 1


def test_plan_from_elsewhere_is_loaded_only_when_trusted(
    fake: OpenSource,
    log: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_build(BuildJob(("warp",), open_source=fake))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(PlanCache().path, elsewhere)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    (plan,) = elsewhere.glob("warp-*.plan")
    assert run_build(BuildJob(open_source=fake), trust=plan) == 0
    assert "warp: trusted" in capsys.readouterr().out
    assert run_build(BuildJob(("warp",), open_source=fake)) == 0
    assert "was built already" in capsys.readouterr().out
    assert len(log.read_text().splitlines()) == 2
    other: OpenSource = lambda _: PlanSource(  # noqa: E731 -- one line of a test
        FakePlanBuilder(facts=OTHER), PlanCache()
    )
    with pytest.raises(ModelError, match="does not fit: tensorrt"):
        run_build(BuildJob(open_source=other), trust=plan)


def test_trusted_plan_that_the_device_refuses_is_not_called_trusted(
    fake: OpenSource, log: Path, tmp_path: Path
) -> None:
    foreign, model = tmp_path / "warp.plan", PlanModel.read(entry_of("warp"), "warp")
    source = fake(0)
    identity = model.identity(source.builder.device(), source.options)
    foreign.write_bytes(b"no plan")
    foreign.with_suffix(".json").write_bytes(PlanSidecar.of(identity, b"no plan").write())
    with pytest.raises(ModelError, match=r"the device does not take the plan .*warp\.plan"):
        run_build(BuildJob(open_source=fake), trust=foreign)
    assert not log.exists()
    assert PlanCache().states() == ()


def entry_of(network: str) -> Path:
    return Catalog.bundled().entry(network).path


def test_one_thing_at_a_time(fake: OpenSource) -> None:
    with pytest.raises(UsageError, match="give one of"):
        run_build(BuildJob(), show_list=True, prune=True)
    with pytest.raises(UsageError, match="--all belongs to --prune"):
        run_build(BuildJob(), every=True)
    with pytest.raises(UsageError, match="take no networks"):
        run_build(BuildJob(("warp",)), show_list=True)


def test_command_says_in_one_line_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    assert run(["build"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mien: the provider 'tensorrt' is not installed: it takes tensorrt")
    assert error.count("\n") == 1
    assert run(["build", "--list"]) == 0
    assert run(["build", "--prune"]) == 0


def test_command_prunes_what_its_line_says_that_all_removes(
    fake: OpenSource, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_build(BuildJob(("warp",), models=own, open_source=fake))
    assert run(["build", "--prune"]) == 0
    assert "1 of them are of other GPUs or models; --all removes those too" in (
        capsys.readouterr().out
    )
    assert run(["build", "--prune", "--all"]) == 0
    assert built_for() == []
    assert run(["build", "--all"]) == 2
    assert "--all belongs to --prune" in capsys.readouterr().err


def test_time_left_is_told_once_it_is_known() -> None:
    assert time_left(BuildProgress("warp", 0.01, 61)) == "1:01 gone"
    assert time_left(BuildProgress("warp", 0.5, 61)) == "1:01 left"
