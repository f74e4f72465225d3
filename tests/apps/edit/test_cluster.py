"""A clip edited in pieces on a real Ray cluster, one of whose machines dies."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import mien.apps
from mien.apps.edit.cluster import needed
from mien.apps.main import open_filter, run
from mien.runtime.pieces import plan_pieces
from mien.runtime.session import FaceFilter
from mien.runtime.spec import FilterSpec
from tests.apps.fakes import FakeFilter, scene
from tests.runtime.video.clips import ClipSpec, make_clip

Captured = pytest.CaptureFixture[str]
RATE = 5
SAMPLE = Path(mien.apps.__file__).parent / "sample" / "sample.mp4"


def _leave_name(settings: FilterSpec) -> None:
    """Leave the name of this machine in a folder, with the names of its models, on the cluster."""
    if settings.models is not None:
        import ray

        models = ",".join(sorted(path.name for path in settings.models.iterdir()))
        name = f"{ray.get_runtime_context().get_node_id()}-{time.monotonic_ns()}"
        (Path(os.environ["NAMED_IN"]) / name).write_text(models)


class NamedFilter(FakeFilter):
    """A fake filter that leaves the name of its machine."""

    def __init__(self, settings: FilterSpec) -> None:
        super().__init__(settings)
        _leave_name(settings)


def named_filter(settings: FilterSpec) -> FaceFilter:
    """The real filter, after the name of its machine is left."""
    opened = open_filter(settings)
    _leave_name(settings)
    return opened


def _clip(path: Path) -> Path:
    """60 s of a face, with a keyframe every 3 s."""
    settings = {"crf": "12", "preset": "ultrafast", "g": str(3 * RATE)}
    spec = ClipSpec(
        frames=60 * RATE,
        rate=Fraction(RATE),
        size_wh=(64, 48),
        options=settings,
        audio_tracks=1,
        picture=lambda index, width, height: scene(index, size_wh=(width, height))[..., ::-1],
    )
    return make_clip(path, spec)


def _real_clip(path: Path) -> Path:
    """36 s of a face, to and fro, with a keyframe every 3 s."""
    with av.open(str(SAMPLE)) as sample:
        frames = sample.decode(video=0)
        pictures = [
            f.to_ndarray(format="rgb24", width=320, height=240, threads=1)
            for f in islice(frames, 0, 90, 3)
        ]
    turns = [*pictures, *pictures[::-1]]
    spec = ClipSpec(
        frames=36 * 10,
        rate=Fraction(10),
        size_wh=(320, 240),
        options={"crf": "16", "preset": "ultrafast", "g": "30"},
        audio_tracks=1,
        picture=lambda index, _width, _height: turns[index % len(turns)],
    )
    return make_clip(path, spec)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine, a processor core each."""
    utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("NAMED_IN", str(tmp_path / "names"))
    monkeypatch.setenv("FAKE_DELAY_S", "0.01")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path]))
    (tmp_path / "names").mkdir()
    small = {"num_cpus": 1, "object_store_memory": 200 << 20, "include_dashboard": False}
    made = utils.Cluster(initialize_head=True, head_node_args=small)
    made.add_node(num_cpus=1, object_store_memory=200 << 20)
    yield made
    made.shutdown()


@contextlib.contextmanager
def _one_killed_at_work(cluster: Any, names: Path) -> Iterator[None]:
    """The second node is killed as soon as a piece has begun there; fails where none does."""
    lost = next(iter(cluster.worker_nodes))
    killed, done = threading.Event(), threading.Event()

    def kill_at_work() -> None:
        while not done.is_set():
            if list(names.glob(f"{lost.node_id}-*")):
                cluster.remove_node(lost, allow_graceful=False)
                killed.set()
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_at_work, daemon=True)
    killer.start()
    try:
        yield
    finally:
        done.set()
        killer.join()
    assert killed.is_set()


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")  # Ray's own, of files and processes
def test_machine_that_dies_at_work_loses_no_frame(
    cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, names = _clip(tmp_path / "in.mp4"), tmp_path / "names"
    assert len(plan_pieces(source, 2)) >= 4  # two for each
    asked = ["edit", str(source), "--emotion", "happy", "-o"]
    capfd.readouterr()
    with _one_killed_at_work(cluster, names):
        assert run([*asked, str(tmp_path / "two.mp4"), "--ray", cluster.address], NamedFilter) == 0
    assert len(capfd.readouterr().out.splitlines()) == 1  # of mien, none of Ray
    began = [path.name.split("-")[0] for path in names.iterdir()]
    assert began.count(cluster.head_node.node_id) >= 2
    models = next(names.iterdir()).read_text().split(",")
    assert models == sorted(["catalog.toml", *(entry.file for entry in needed(FilterSpec()))])
    assert run([*asked, str(tmp_path / "one.mp4")], FakeFilter) == 0
    assert (tmp_path / "two.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.mp4",
        "names",
        "one.mp4",
        "two.mp4",
    ]


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")
def test_real_edit_of_a_cluster_is_that_of_one_process(cluster: Any, tmp_path: Path) -> None:
    source, names = _real_clip(tmp_path / "in.mp4"), tmp_path / "names"
    _, second = plan_pieces(source, 2)
    asked = ["edit", str(source), "--emotion", "happy", "--quality", "100", "--no-marks", "-o"]
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    with _one_killed_at_work(cluster, names):
        assert run([*asked, str(two), "--ray", cluster.address], named_filter) == 0
    assert run([*asked, str(one), "--precision", "fp32"]) == 0  # as machines of a cluster run
    whole, edited, original = _frames(one), _frames(two), _frames(source)
    assert [pts for pts, _ in edited] == [pts for pts, _ in whole] == [pts for pts, _ in original]
    alike = [_psnr_db(a, b) for (_, a), (_, b) in zip(edited, whole, strict=True)]
    changed = [_psnr_db(a, b) for (_, a), (_, b) in zip(edited, original, strict=True)]
    joint = [pts for pts, _ in original].index(second.start)
    assert min(alike[joint - 20 : joint + 20]) >= 50
    # Further on, a mask of what covers the face may flip at its threshold in one of the two.
    assert min(alike) >= 45
    assert np.mean(np.array(alike) >= 50) >= 0.98
    assert np.median(changed) < 45  # it is an edit that is compared
    assert _sound(one) == _sound(two)


def _frames(path: Path) -> list[tuple[int | None, np.ndarray]]:
    with av.open(str(path)) as clip:
        return [(f.pts, f.to_ndarray(format="yuv420p", threads=1)) for f in clip.decode(video=0)]


def _sound(path: Path) -> list[bytes]:
    with av.open(str(path)) as clip:
        return [bytes(packet) for packet in clip.demux(audio=0)]


def _psnr_db(one: np.ndarray, other: np.ndarray) -> float:
    error = float(((one.astype(np.float32) - other) ** 2).mean())
    return 10 * math.log10(255**2 / max(error, 1e-9))


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
small = {"num_cpus": 1, "object_store_memory": 200 << 20, "include_dashboard": False}
made = Cluster(initialize_head=True, head_node_args=small)
print("at", made.address, flush=True)
sys.stdin.read()
made.shutdown()
"""
EDIT = """
import sys
from mien.apps.main import run
from tests.apps.fakes import FakeFilter
sys.exit(run(sys.argv[1:], FakeFilter))
"""
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For processes with a home of their own, without what Ray was told here."""
    pytest.importorskip("ray")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    (tmp_path / "home").mkdir()
    own = {"HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    return kept | own | {"RAY_USAGE_STATS_ENABLED": "0"}


def _edited(source: Path, ray: str, environment: dict[str, str]) -> tuple[int, str, str]:
    command = [sys.executable, "-c", EDIT, "edit", str(source), "--emotion", "happy", "--ray", ray]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.cluster
def test_cluster_that_asks_for_a_token_says_so(tmp_path: Path, environment: dict[str, str]) -> None:
    source, pipe = _clip(tmp_path / "in.mp4"), subprocess.PIPE
    command = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(command, env=environment | TOKEN, stdin=pipe, stdout=pipe) as made:
        assert made.stdout is not None
        lines = iter(made.stdout.readline, b"")
        address = next(line for line in lines if line.startswith(b"at ")).decode().split()[1]
        status, out, said = _edited(source, address, environment)
        assert (status, out) == (2, "")
        (line,) = said.splitlines()
        assert line.startswith(f"mien: the Ray cluster at {address} asks for its token: set RAY_")
        assert not list(tmp_path.glob("*happy*"))
        status, out, said = _edited(source, address, environment | TOKEN)
        assert status == 0, said
        assert len(out.splitlines()) == 1
        made.communicate(b"")
    assert not list((tmp_path / "home").rglob("auth_token"))


@pytest.mark.cluster
def test_cluster_that_is_started_here_leaves_no_token(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    source = _clip(tmp_path / "in.mp4")
    status, out, said = _edited(source, "local", environment)
    assert status == 0, said
    assert len(out.splitlines()) == 1
    assert (tmp_path / "in_happy.mp4").exists()
    assert not list((tmp_path / "home").rglob("auth_token"))


def test_cluster_without_ray_is_told_with_the_line_that_installs_it(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    source = _clip(tmp_path / "in.mp4")
    assert run(["edit", str(source), "--emotion", "happy", "--ray", "local"], FakeFilter) == 2
    said = capsys.readouterr().err
    assert said.startswith("mien: --ray needs Ray: pip install ")
    assert "[cluster]" in said
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9"),
        ("nowhere", "--ray takes local, auto or HOST:PORT, not 'nowhere'"),
        ("127.0.0.1:99999", "no Ray cluster answers at 127.0.0.1:99999"),
    ],
)
def test_address_where_no_cluster_is_fails_in_one_line(
    tmp_path: Path, capsys: Captured, address: str, words: str
) -> None:
    pytest.importorskip("ray")
    source = _clip(tmp_path / "in.mp4")
    assert run(["edit", str(source), "--emotion", "happy", "--ray", address], FakeFilter) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"mien: {words}")


def test_ray_takes_no_stream(capsys: Captured) -> None:
    assert run(["edit", "-", "--emotion", "happy", "--ray", "local"], FakeFilter) == 2
    assert "--ray edits files" in capsys.readouterr().err
