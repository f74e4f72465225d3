"""The plan cache with real files and real processes, and a device that is not there."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mien.engines import EngineError, ModelError
from mien.engines.system.folders import CacheFolder, user_cache
from mien.engines.tensorrt.builder import BuildOptions
from mien.engines.tensorrt.engine import PlanModel, PlanSource
from mien.engines.tensorrt.plan_files import (
    FORMAT,
    MAX_PLAN_BYTES,
    PlanIdentity,
    PlanSidecar,
    read_foreign,
)
from mien.engines.tensorrt.plans import BuildWatch, Loaded, PlanCache
from tests.engines.tensorrt.fake_builder import FAKE_DEVICE, FakePlanBuilder
from tests.engines.tiny import TINY, write_tiny

OPTIONS = BuildOptions()


@pytest.fixture
def model(tmp_path: Path) -> PlanModel:
    write_tiny(tmp_path / "tiny.onnx")
    return PlanModel.read(tmp_path / "tiny.onnx", TINY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "plans"


@pytest.fixture
def identity(model: PlanModel) -> PlanIdentity:
    return model.identity(FAKE_DEVICE, OPTIONS)


def load(
    folder: Path, model: PlanModel, builder: FakePlanBuilder, watch: BuildWatch | None = None
) -> Loaded:
    return PlanCache(folder).load_or_build(
        model.identity(builder.device(), OPTIONS),
        builder,
        model.model,
        options=OPTIONS,
        watch=watch,
    )


def found_plan(cache: PlanCache, identity: PlanIdentity) -> bytes:
    plan = cache.find(identity).plan
    assert plan is not None
    return plan


def take(plan: bytes) -> None:
    """Take any plan, as a device may."""


def test_second_start_takes_the_plan_of_the_first(folder: Path, model: PlanModel) -> None:
    builder = FakePlanBuilder()
    first, second = load(folder, model, builder), load(folder, model, builder)
    assert (first.was_built, second.was_built) == (True, False)
    assert first.plan == second.plan
    assert len(builder.asked) == 1


def test_everything_is_private(folder: Path, model: PlanModel) -> None:
    load(folder, model, FakePlanBuilder())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in folder.iterdir() if path.is_file()]
    assert len(files) == 4  # plan, sidecar, timing cache, lock
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.parametrize(
    "changed",
    [
        {"tensorrt": "10.13.3"},
        {"cuda_major": 13},
        {"sm": "8.9"},
        {"gpu": "Another"},
        {"system": "Windows"},
        {"architecture": "x86_64"},
    ],
    ids=str,
)
def test_another_device_gets_its_own_plan(
    folder: Path, model: PlanModel, changed: dict[str, object]
) -> None:
    load(folder, model, FakePlanBuilder())
    other = FakePlanBuilder(facts=replace(FAKE_DEVICE, **changed))  # type: ignore[arg-type]
    assert load(folder, model, other).was_built
    assert not load(folder, model, FakePlanBuilder()).was_built


@pytest.mark.parametrize("field", ["graph_sha256", "precision", "profile", "options", "network"])
def test_another_graph_precision_profile_or_option_is_another_plan(
    folder: Path, model: PlanModel, identity: PlanIdentity, field: str
) -> None:
    load(folder, model, FakePlanBuilder())
    cache = PlanCache(folder)
    assert cache.find(identity).plan is not None
    assert cache.find(replace(identity, **{field: "another"})).plan is None


def test_changed_model_file_is_another_plan(folder: Path, model: PlanModel, tmp_path: Path) -> None:
    load(folder, model, FakePlanBuilder())
    write_tiny(tmp_path / "tiny.onnx", {**TINY.metadata(), "mien.paper": "another"})
    assert load(folder, PlanModel.read(tmp_path / "tiny.onnx", TINY), FakePlanBuilder()).was_built


@pytest.mark.parametrize("ending", [".plan", ".json"])
def test_every_flipped_byte_of_plan_and_sidecar_is_found_and_built_again(
    folder: Path, model: PlanModel, identity: PlanIdentity, ending: str
) -> None:
    load(folder, model, FakePlanBuilder())
    file = folder / (identity.stem + ending)
    whole = file.read_bytes()
    cache = PlanCache(folder)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        assert cache.find(identity).plan is None, f"byte {place} of {ending}"
    loaded = load(folder, model, FakePlanBuilder())
    assert loaded.was_built
    assert "damaged" in loaded.reason
    assert cache.find(identity).plan == loaded.plan


@pytest.mark.parametrize("ending", [".plan", ".json"])
@pytest.mark.parametrize("size", [0, 20])
def test_truncated_files_are_built_again(
    folder: Path, model: PlanModel, identity: PlanIdentity, ending: str, size: int
) -> None:
    load(folder, model, FakePlanBuilder())
    os.truncate(folder / (identity.stem + ending), size)
    assert load(folder, model, FakePlanBuilder()).was_built


@pytest.mark.parametrize("ending", [".plan", ".json"])
def test_missing_half_is_built_again(
    folder: Path, model: PlanModel, identity: PlanIdentity, ending: str
) -> None:
    load(folder, model, FakePlanBuilder())
    (folder / (identity.stem + ending)).unlink()
    loaded = load(folder, model, FakePlanBuilder())
    assert loaded.was_built
    assert "is missing" in loaded.reason


def test_flipped_byte_in_the_timing_cache_is_found_and_the_cache_begun_again(
    folder: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    load(folder, model, FakePlanBuilder())
    cache = PlanCache(folder)
    assert cache.timing_cache(FAKE_DEVICE) == b"+tiny"
    file = folder / f"{FAKE_DEVICE.tag}.timing"
    whole = file.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        assert cache.timing_cache(FAKE_DEVICE) == b""
    cache.discard(identity, found_plan(cache, identity))
    builder = FakePlanBuilder()
    load(folder, model, builder)
    assert builder.asked[0].timing_cache == b""
    assert cache.timing_cache(FAKE_DEVICE) == b"+tiny"


def test_timing_cache_of_one_build_goes_into_the_next(
    folder: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    cache = PlanCache(folder)
    cache.discard(identity, load(folder, model, FakePlanBuilder()).plan)
    builder = FakePlanBuilder()
    load(folder, model, builder)
    assert builder.asked[0].timing_cache == b"+tiny"


def test_plan_from_elsewhere_is_taken_in_where_a_person_trusts_it(
    folder: Path, tmp_path: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    elsewhere = tmp_path / "elsewhere"
    plan = load(elsewhere, model, FakePlanBuilder()).plan
    cache = PlanCache(folder)
    cache.adopt(read_foreign(elsewhere / f"{identity.stem}.plan"), identity, take)
    assert cache.find(identity).plan == plan


def test_trusted_plan_has_to_be_whole_and_to_fit(
    folder: Path, tmp_path: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    elsewhere = tmp_path / "elsewhere"
    load(elsewhere, model, FakePlanBuilder())
    file = elsewhere / f"{identity.stem}.plan"
    cache = PlanCache(folder)
    other = replace(identity, device=replace(FAKE_DEVICE, sm="8.9"))
    with pytest.raises(ModelError, match=r"does not fit: sm 8\.7, here 8\.9; build it here"):
        cache.adopt(read_foreign(file), other, take)
    with pytest.raises(ModelError, match=r"cannot read .*none\.json"):
        cache.adopt(read_foreign(elsewhere / "none.plan"), identity, take)
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ModelError, match="is damaged"):
        cache.adopt(read_foreign(file), identity, take)
    (elsewhere / f"{identity.stem}.json").write_text(json.dumps({"format": FORMAT}))
    with pytest.raises(ModelError, match="sidecar is damaged"):
        cache.adopt(read_foreign(file), identity, take)
    assert cache.find(identity).plan is None


@pytest.mark.parametrize(
    "sidecar",
    [
        b"[" * 50_000,
        b'{"format": 1e999}',
        json.dumps(
            {
                "format": FORMAT,
                "identity": {
                    **dict.fromkeys(("graph_sha256", "precision", "profile", "options"), ""),
                    "network": ["warp"],
                    "device": asdict(FAKE_DEVICE),
                },
                "plan_sha256": "",
                "plan_bytes": 0,
                "built_s": 0,
            }
        ).encode(),
    ],
    ids=["nested", "infinite", "a list for a name"],
)
def test_any_damage_of_a_sidecar_is_found(
    folder: Path, model: PlanModel, identity: PlanIdentity, sidecar: bytes
) -> None:
    load(folder, model, FakePlanBuilder())
    (folder / f"{identity.stem}.json").write_bytes(sidecar)
    cache = PlanCache(folder)
    assert cache.find(identity).reason == "its sidecar is damaged"
    with pytest.raises(ModelError, match="its sidecar is damaged"):
        cache.adopt(read_foreign(folder / f"{identity.stem}.plan"), identity, take)


def test_plan_from_elsewhere_that_the_device_refuses_leaves_the_own_one(
    folder: Path, tmp_path: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    own = load(folder, model, FakePlanBuilder()).plan
    foreign = tmp_path / "tiny.plan"
    foreign.write_bytes(b"no plan")
    foreign.with_suffix(".json").write_bytes(PlanSidecar.of(identity, b"no plan").write())
    source = PlanSource(FakePlanBuilder(), PlanCache(folder))
    with pytest.raises(ModelError, match=r"the device does not take the plan .*tiny\.plan"):
        source.trust(model, read_foreign(foreign))
    assert PlanCache(folder).find(identity).plan == own


def test_what_is_no_file_of_a_plan_s_size_is_not_read(
    tmp_path: Path, identity: PlanIdentity
) -> None:
    plan = tmp_path / "tiny.plan"
    with pytest.raises(ModelError, match="is no name of a plan"):
        read_foreign(Path())
    with pytest.raises(ModelError, match="is no name of a file"):
        read_foreign(Path("a\0b"))
    plan.with_suffix(".json").write_bytes(PlanSidecar.of(identity, b"x").write())
    plan.mkdir()
    with pytest.raises(ModelError, match=r"tiny\.plan"):
        read_foreign(plan)
    plan.rmdir()
    with plan.open("wb") as file:
        file.truncate(MAX_PLAN_BYTES + 1)
    with pytest.raises(ModelError, match=r"tiny\.plan has 2,147,483,649 bytes, more than"):
        read_foreign(plan)
    if hasattr(os, "mkfifo"):
        plan.unlink()
        os.mkfifo(plan)
        with pytest.raises(ModelError, match=r"tiny\.plan is not a file"):
            read_foreign(plan)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of POSIX")
def test_pipe_in_the_cache_is_not_waited_for(
    folder: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    load(folder, model, FakePlanBuilder())
    plan = folder / f"{identity.stem}.plan"
    plan.unlink()
    os.mkfifo(plan, 0o600)
    assert PlanCache(folder).find(identity).plan is None
    assert load(folder, model, FakePlanBuilder()).was_built


def test_plan_built_meanwhile_is_not_discarded(
    folder: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    plan = load(folder, model, FakePlanBuilder()).plan
    cache = PlanCache(folder)
    cache.discard(identity, plan + b" of before")
    assert cache.find(identity).plan == plan
    cache.discard(identity, plan)
    assert cache.find(identity).plan is None


def test_lock_that_cannot_be_had_is_one_line(folder: Path, model: PlanModel) -> None:
    PlanCache(folder)
    (folder / "lock").mkdir()
    with pytest.raises(EngineError, match=r"cannot lock .*lock: .*; remove it"):
        load(folder, model, FakePlanBuilder())


@pytest.mark.skipif(sys.platform == "win32", reason="locks otherwise")
def test_disk_without_locks_is_not_waited_for(
    folder: Path, model: PlanModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    watch = BuildWatch(on_wait=lambda: pytest.fail("waits"))
    with pytest.raises(EngineError, match=r"cannot lock .*No locks available"):
        load(folder, model, FakePlanBuilder(), watch)


def test_link_in_place_of_a_plan_is_not_followed(
    folder: Path, tmp_path: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    load(folder, model, FakePlanBuilder())
    plan = folder / f"{identity.stem}.plan"
    plan.replace(tmp_path / "moved")
    plan.symlink_to(tmp_path / "moved")
    assert PlanCache(folder).find(identity).plan is None


def test_plan_that_others_may_write_is_not_loaded(
    folder: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    load(folder, model, FakePlanBuilder())
    (folder / f"{identity.stem}.plan").chmod(0o666)
    assert "not private" in PlanCache(folder).find(identity).reason


def test_open_folder_is_closed_to_others(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o755)
    folder.chmod(0o777)
    PlanCache(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(EngineError, match="belongs to another user"):
        PlanCache(folder)


def test_file_in_place_of_the_folder_is_one_line(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("")
    with pytest.raises(EngineError, match="cannot use the cache folder"):
        PlanCache(folder)


def test_cache_lies_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    if sys.platform == "linux":
        assert user_cache() == Path("/somewhere/mien")
        monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")  # not the working folder's
        assert user_cache() == Path.home() / ".cache" / "mien"


def test_build_that_fails_leaves_nothing(
    folder: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    watch = BuildWatch(gave_up=lambda: True)
    with pytest.raises(EngineError, match="called off"):
        load(folder, model, FakePlanBuilder(), watch)
    assert PlanCache(folder).find(identity).reason == "there is no plan yet"
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_progress_is_reported_with_the_time_left(folder: Path, model: PlanModel) -> None:
    told = []
    load(folder, model, FakePlanBuilder(build_s=0.1), BuildWatch(report=told.append))
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert told[-1].done == 1
    middle = told[len(told) // 2]
    assert middle.left_s is not None
    assert middle.left_s > 0
    assert told[-1].left_s == 0


def test_prune_removes_what_cannot_be_used_and_what_is_not_wanted(
    folder: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    other = FakePlanBuilder(facts=replace(FAKE_DEVICE, tensorrt="10.1.0"))
    load(folder, model, FakePlanBuilder())
    load(folder, model, other)
    cache = PlanCache(folder)
    (folder / "broken-0.plan").write_bytes(b"x")
    (folder / ".left.plan.0123.part").write_bytes(b"x")
    removed = cache.prune(lambda sidecar: sidecar.identity.device == FAKE_DEVICE)
    unwanted = model.identity(other.facts, OPTIONS).stem
    assert set(removed) == {
        "broken-0.plan",
        ".left.plan.0123.part",
        f"{unwanted}.plan",
        f"{other.facts.tag}.timing",
    }
    assert cache.find(identity).plan is not None
    assert [state.name for state in cache.states()] == [identity.stem]
    assert cache.timing_cache(FAKE_DEVICE) == b"+tiny"


def test_states_tell_why_a_plan_cannot_be_used(
    folder: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    load(folder, model, FakePlanBuilder())
    (folder / f"{identity.stem}.plan").write_bytes(b"x")
    (state,) = PlanCache(folder).states()
    assert state.sidecar is None
    assert state.reason == "the plan is damaged"


# Processes

CHILD = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from mien.engines.tensorrt.builder import BuildOptions
from tests.engines.tensorrt.fake_builder import FakePlanBuilder
from mien.engines.tensorrt.plans import PlanCache
from mien.engines.tensorrt.engine import PlanModel, PlanSource
from tests.engines.tiny import TINY
folder, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
model = PlanModel.read(Path(sys.argv[4]), TINY)
builder = FakePlanBuilder(build_s=seconds, log=log)
print("ready", flush=True)
sys.stdin.readline()
loaded = PlanCache(folder).load_or_build(
    model.identity(builder.device(), BuildOptions()), builder, model.model, options=BuildOptions()
)
print(loaded.was_built, len(loaded.plan))
"""


def start(folder: Path, log: Path, seconds: float, model: PlanModel) -> subprocess.Popen[str]:
    program = CHILD.format(root=str(Path(__file__).parents[3]))
    arguments = [str(folder), str(log), str(seconds), str(model.path)]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_ten_processes_at_once_on_an_empty_cache_build_once(
    folder: Path, tmp_path: Path, model: PlanModel
) -> None:
    log = tmp_path / "builds"
    children = [start(folder, log, 0.5, model) for _ in range(10)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    outputs = [child.communicate("go\n")[0].split() for child in children]
    assert sorted(built for built, _ in outputs) == ["False"] * 9 + ["True"]
    assert len({size for _, size in outputs}) == 1
    assert log.read_text().splitlines() == ["began tiny", "ended tiny"]


def test_killed_build_leaves_nothing_and_the_next_builds(
    folder: Path, tmp_path: Path, model: PlanModel, identity: PlanIdentity
) -> None:
    log = tmp_path / "builds"
    child = start(folder, log, 60, model)
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()
    while not log.exists():
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert load(folder, model, FakePlanBuilder(log=log)).was_built
    assert log.read_text().splitlines() == ["began tiny", "began tiny", "ended tiny"]


def test_parts_of_a_killed_writer_go_with_the_next_build(folder: Path, model: PlanModel) -> None:
    PlanCache(folder)
    (folder / ".tiny.plan.01234567.part").write_bytes(b"half")
    load(folder, model, FakePlanBuilder())
    assert not list(folder.glob(".*.part"))


def test_who_waits_for_another_build_is_told_and_may_give_up(
    folder: Path, model: PlanModel
) -> None:
    waits: list[str] = []
    begun, released = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        released.wait()

    slow = BuildWatch(on_build=lambda _: hold())
    first = threading.Thread(target=lambda: load(folder, model, FakePlanBuilder(), slow))
    first.start()
    begun.wait()
    impatient = BuildWatch(on_wait=lambda: waits.append("waits"), gave_up=lambda: bool(waits))
    with pytest.raises(EngineError, match="called off"):
        load(folder, model, FakePlanBuilder(), impatient)
    released.set()
    first.join()
    assert waits == ["waits"]
    assert not load(folder, model, FakePlanBuilder()).was_built


def test_full_disk_is_one_line_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = CacheFolder(folder)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EngineError, match="No space left on device; make room"):
        cache.write("a.plan", b"x" * 100)
    assert list(folder.iterdir()) == []


def test_plan_that_finds_no_room_runs_all_the_same_and_a_line_says_so(
    folder: Path,
    model: PlanModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with PlanSource(FakePlanBuilder(), PlanCache(folder)).open(model) as engine:
        assert engine.provider == "fake-plan"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("the plan is not kept, and has to be built again: cannot write ")
    assert not list(folder.glob("*.plan"))


def test_user_without_a_home_is_told_where_to_put_the_plans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "expanduser", nobody)
    with pytest.raises(EngineError, match="no home folder for the plans; set XDG_CACHE_HOME"):
        user_cache()
