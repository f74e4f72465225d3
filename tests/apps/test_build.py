"""`mien build` with a device that is not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mien.apps.build import BuildJob, OpenSource, run_build, time_left
from mien.apps.main import run
from mien.engines import Catalog, DeviceError, ModelError, UsageError
from mien.engines.builder import BuildProgress
from mien.engines.fake_builder import FakePlanBuilder
from mien.engines.plan_cache import PlanCache
from mien.engines.plan_engine import PlanModel, PlanSource
from mien.engines.plan_sidecar import DeviceFacts, PlanSidecar

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
    assert [line.split(":")[0] for line in lines] == ["detector", "landmarks", "warp", "mouth"]
    assert all("built (there is no plan yet), on fake-plan" in line for line in lines)
    assert run_build(BuildJob(open_source=fake)) == 0
    assert capsys.readouterr().out.count("was built already") == 4
    assert len(log.read_text().splitlines()) == 8


def test_named_networks_are_built(fake: OpenSource, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_build(BuildJob(("mouth", "warp", "mouth"), open_source=fake)) == 0
    names = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["mouth", "warp"]
    with pytest.raises(ModelError, match="the catalog has no model for the network 'nose'"):
        run_build(BuildJob(("nose",), open_source=fake))


def test_list_shows_each_plan_and_what_is_wrong_with_it(
    fake: OpenSource, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run_build(BuildJob(("mouth", "warp"), open_source=fake))
    (plan,) = PlanCache().path.glob("mouth-*.plan")
    plan.write_bytes(b"x")
    capsys.readouterr()
    assert run_build(BuildJob(), show_list=True) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "warp fp32 10.3.0 Fake (SM 8.7)" in out
    assert "damaged" in out
    assert f"plans lie in {PlanCache().path}" in out.replace("\n", "")


def test_prune_leaves_what_this_machine_can_use(
    fake: OpenSource, capsys: pytest.CaptureFixture[str]
) -> None:
    run_build(BuildJob(("warp",), open_source=fake))
    other: Callable[[int], PlanSource] = lambda _: PlanSource(  # noqa: E731 -- one line of a test
        FakePlanBuilder(facts=OTHER), PlanCache()
    )
    run_build(BuildJob(("warp",), open_source=other))
    assert len(PlanCache().states()) == 2
    capsys.readouterr()
    assert run_build(BuildJob(open_source=fake), prune=True) == 0
    assert "2 removed, 1 plans left" in capsys.readouterr().out  # a plan and its timing cache
    (kept,) = PlanCache().states()
    assert kept.sidecar is not None
    assert kept.sidecar.identity.device.gpu == "Fake"


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
    foreign.with_suffix(".json").write_bytes(PlanSidecar.of(identity, b"no plan").write(b"other"))
    with pytest.raises(ModelError, match=r"the device does not take the plan .*warp\.plan"):
        run_build(BuildJob(open_source=fake), trust=foreign)
    assert not log.exists()
    assert PlanCache().states() == ()


def entry_of(network: str) -> Path:
    return Catalog.bundled().entry(network).path


def test_one_thing_at_a_time(fake: OpenSource) -> None:
    with pytest.raises(UsageError, match="give one of"):
        run_build(BuildJob(), show_list=True, prune=True)
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


def test_time_left_is_told_once_it_is_known() -> None:
    assert time_left(BuildProgress("warp", 0.01, 61)) == "1:01 gone"
    assert time_left(BuildProgress("warp", 0.5, 61)) == "1:01 left"
