"""A method of one's own edits, is steered, measured and calibrated, and mien is not touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from mien.apps.camera.remote import ControlServer, Wanted, running_cameras, send
from mien.apps.panel.parsing import parse_client_message
from mien.apps.panel.presets import Presets
from mien.apps.panel.steering import Steering
from mien.engines.errors import UsageError
from mien.runtime.filter import Filter
from mien.runtime.live.controls import Controls
from mien.runtime.methods import method_spec, method_specs
from mien.runtime.video import read_frames
from tests.apps.fakes import write_clip
from tests.apps.stand_in import write_models
from tests.runtime.methods.brighter import NETWORK
from tests.runtime.methods.gan.networks import write_network

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "apps" / "sample" / "sample.mp4"


@pytest.fixture(autouse=True)
def brighter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_METHODS", "tests.runtime.methods.brighter")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = write_models(tmp_path / "models")
    nodes = [
        helper.make_node("Mul", ["face", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "half"], ["gain"]),
    ]
    constants = {"zero": np.zeros(1, np.float32), "half": np.full(1, 0.5, np.float32)}
    write_network(folder, NETWORK, nodes, constants, {})
    return folder


def test_it_edits_by_what_it_is_told(models: Path) -> None:
    frame = next(iter(read_frames(SAMPLE)))
    changes = {}
    for side, amount in (("both", 1.0), ("both", 0.2), ("left", 1.0)):
        with Filter("happy", method="brighter", models=models, side=side, amount=amount) as change:
            for _ in range(30):
                edited = change.apply(frame)
        before, after = (f.planes[0].samples.astype(int) for f in (frame, edited))
        changes[side, amount] = int((after - before).clip(0).sum())
    assert changes["both", 1.0] > 3 * changes["both", 0.2] > 0
    assert 0 < changes["left", 1.0] < 0.7 * changes["both", 1.0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"side": "up"}, "unknown side 'up' (known: both, left)"),
        ({"amount": 2.0}, "amount lies in 0..1, not 2.0"),
        ({"amount": "much"}, "amount is a number, not 'much'"),
        ({"gan": "stargan"}, "the method brighter has no option gan"),
    ],
)
def test_what_it_cannot_be_told_is_refused(
    models: Path, options: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        Filter("happy", method="brighter", models=models, **options)
    assert said in str(caught.value)


def mien(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own: its options are those declared when it starts."""
    command = [sys.executable, "-m", "mien", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_takes_its_options(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    command = ["edit", str(SAMPLE), "-o", str(out), "--emotion", "happy", "--models", str(models)]
    command += ["--method", "brighter", "--json"]
    done = mien(*command, "--amount", "0.4", "--side", "left")
    assert (done.returncode, done.stderr) == (0, "")
    assert out.exists()
    shown = " ".join(mien("edit", "--help").stdout.split())
    assert "--side both|left Which side." in shown
    assert "brighter lights the face up" in shown
    done = mien(*command, "--amount", "3")
    assert done.returncode == 2
    assert "amount lies in 0..1" in done.stderr


def test_a_running_camera_is_steered_to_it(tmp_path: Path) -> None:
    controls = Controls()
    steering = Steering(controls, Presets(tmp_path / "presets.json", lambda: None))
    hello = steering.hello()
    assert hello.method_help["brighter"] == "lights the face up"
    assert [option.name for option in hello.method_options["brighter"]] == ["side", "amount"]
    steering.do(
        parse_client_message(
            json.dumps({"type": "set", "method": "brighter", "options": {"side": "left"}})
        )
    )
    assert steering.state().options == {"side": "left"}
    with pytest.raises(UsageError, match="unknown side"):
        steering.do(parse_client_message(json.dumps({"type": "set", "options": {"side": "up"}})))
    folder = tmp_path / "run"
    with ControlServer(controls, "camera", folder=folder):
        (camera,) = running_cameras(folder)
        assert send(camera, Wanted(options={"amount": 0.25}))["options"] == {
            "side": "left",
            "amount": 0.25,
        }
        assert send(camera, Wanted(method="warp"))["options"] == {}


def test_it_is_benched_and_calibrated(models: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", 14, size_wh=(320, 240))
    command = ["bench", str(clip), "--runs", "1", "--models", str(models), "--json"]
    command += ["--method", "brighter", "--amount", "0.3"]
    done = mien(*command)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["method"] == "--method brighter --amount 0.3 --emotion happy"
    assert report["ratio"] > 0
    out = tmp_path / "fp16"
    command = ["calibrate", "brighter", "--models", str(models), "-o", str(out)]
    done = mien(*command, "--precision", "fp16")
    assert done.returncode == 0, done.stderr
    assert (out / "brighter.onnx").exists()


def test_without_it_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIEN_METHODS")
    assert "brighter" not in method_specs()
    with pytest.raises(UsageError, match="unknown method 'brighter'"):
        method_spec("brighter")
    monkeypatch.setenv("MIEN_METHODS", "no.such.module")
    with pytest.raises(UsageError, match=r"MIEN_METHODS names no\.such\.module"):
        method_specs()
