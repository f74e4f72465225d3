"""A clip edited in pieces on a real Ray cluster, one of whose machines dies."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mien.apps.edit.cluster import needed
from mien.apps.main import run
from mien.runtime.pieces import plan_pieces
from mien.runtime.spec import FilterSpec
from tests.apps.fakes import FakeFilter, scene
from tests.runtime.video.clips import ClipSpec, make_clip

Captured = pytest.CaptureFixture[str]
RATE = 5


class NamedFilter(FakeFilter):
    """A fake filter that leaves the name of its machine in a folder, and its models' names."""

    def __init__(self, settings: FilterSpec) -> None:
        super().__init__(settings)
        if settings.models is not None:  # on the cluster
            import ray

            models = ",".join(sorted(path.name for path in settings.models.iterdir()))
            name = f"{ray.get_runtime_context().get_node_id()}-{time.monotonic_ns()}"
            (Path(os.environ["NAMED_IN"]) / name).write_text(models)


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, of files and processes
def test_machine_that_dies_at_work_loses_no_frame(cluster: Any, tmp_path: Path) -> None:
    source, names = _clip(tmp_path / "in.mp4"), tmp_path / "names"
    assert len(plan_pieces(source, 2)) >= 4  # two for each
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
    asked = ["edit", str(source), "--emotion", "happy", "-o"]
    assert run([*asked, str(tmp_path / "two.mp4"), "--ray", cluster.address], NamedFilter) == 0
    done.set()
    killer.join()
    assert killed.is_set()
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
