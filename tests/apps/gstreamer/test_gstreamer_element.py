from __future__ import annotations

import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import mien.apps.gstreamer
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.target import EMOTIONS

SAMPLE = Path(__file__).parents[3] / "apps/sample/sample.mp4"
SYSTEM = "/usr/lib/python3/dist-packages"  # where Debian has the bindings, for a Python of its kind
SIZE = (322, 182)  # rows are filled up to 4 bytes
FRAMES, RATE = 8, 25
FORMATS = ("I420", "NV12", "RGB")
LAUNCH = ("gst-launch-1.0", "-q")


def environment(folder: Path) -> dict[str, str]:
    """Of GStreamer's programs: Python is this one, and the list of plugins is made anew."""
    here = [path for path in sys.path if path]
    return os.environ | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join((*here, str(SAMPLE.parents[2]), SYSTEM)),
        "GST_PLUGIN_PATH": mien.apps.gstreamer.__path__[0],
        "GST_REGISTRY": str(folder / "registry.bin"),
    }


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    settings = {"capture_output": True, "text": True, "timeout": 180}
    return subprocess.run(command, env=environment, check=False, **settings)


@pytest.fixture(scope="module")
def gst(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment; skips where GStreamer, its bindings or its loader are missing."""
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("gst-launch-1.0 is not installed")
    made = environment(tmp_path_factory.mktemp("gst"))
    bindings = "import gi; gi.require_version('GstBase', '1.0'); from gi.repository import GstBase"
    if run(made, sys.executable, "-c", bindings).returncode:
        pytest.skip("this Python has no bindings for GStreamer")
    if run(made, "gst-inspect-1.0", "python").returncode:
        pytest.skip("GStreamer's loader for Python is not installed")
    return made


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """The first pictures of the sample, small: uint8 (H, W, 3)."""
    with av.open(str(SAMPLE)) as container:
        decoded = zip(range(FRAMES), container.decode(video=0), strict=False)
        width, height = SIZE
        return [
            frame.to_ndarray(format="rgb24", width=width, height=height, threads=1)
            for _, frame in decoded
        ]


def padded(samples: np.ndarray) -> bytes:
    """One plane as GStreamer lays it out: rows of whole 4 bytes, an even number of luma rows."""
    rows = samples.reshape(samples.shape[0], -1)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()


def planes_of(rgb: np.ndarray, name: str) -> list[np.ndarray]:
    """The planes of a picture in one of FORMATS; the chroma is of no colour where there is one."""
    if name == "RGB":
        return [rgb]
    luma = rgb[..., 1].copy()
    height, width = luma.shape[0] // 2, luma.shape[1] // 2
    chroma = [np.full((height, width), level, np.uint8) for level in (120, 136)]
    return [luma, np.stack(chroma, -1)] if name == "NV12" else [luma, *chroma]


def expected(pictures: list[np.ndarray], name: str) -> list[list[np.ndarray]]:
    """What the filter itself makes of the pictures."""
    kind = "rgb" if name == "RGB" else "yuv"
    layout = PixelLayout(kind, full_range=kind == "rgb", matrix="bt601")  # BT.601 by size
    found = []
    with Filter("happy") as change:
        for index, rgb in enumerate(pictures):
            planes = planes_of(rgb, name)
            steps = [(2, 2) if place else (1, 1) for place in range(len(planes))]
            given = tuple(Plane(plane, step) for plane, step in zip(planes, steps, strict=True))
            pts = index * 10**9 // RATE
            frame = Frame(given, layout, *SIZE, pts, Fraction(1, 10**9))
            found.append([plane.samples for plane in change.apply(frame).planes])
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_the_element_gives_what_the_filter_gives_and_leaves_the_rest(
    gst: dict[str, str], pictures: list[np.ndarray], tmp_path: Path, name: str
) -> None:
    given, taken = tmp_path / "given.raw", tmp_path / "taken.raw"
    raw = [b"".join(map(padded, planes_of(rgb, name))) for rgb in pictures]
    given.write_bytes(b"".join(raw))
    caps = f"format={name.lower()}", f"width={SIZE[0]}", f"height={SIZE[1]}", f"framerate={RATE}/1"
    read = ("filesrc", f"location={given}", "!", "rawvideoparse", *caps, "!")
    edit = ("mien", "happy=1", "watermark=false", "!")
    ended = run(gst, *LAUNCH, *read, *edit, "filesink", f"location={taken}")
    assert ended.returncode == 0, ended.stderr
    wanted = [b"".join(map(padded, planes)) for planes in expected(pictures, name)]
    whole = taken.read_bytes()
    size = len(raw[0])
    found = [whole[index * size : (index + 1) * size] for index in range(FRAMES)]
    assert len(whole) == FRAMES * size
    assert found == wanted
    before, after = (np.frombuffer(data[-1], np.uint8) for data in (raw, found))
    assert 0 < np.count_nonzero(before != after) < before.size // 2


RAMP = """
import gi, sys
gi.require_version("GstController", "1.0")
from gi.repository import Gst, GstController
Gst.init(None)
pipeline = Gst.parse_launch(sys.argv[1])
element = pipeline.get_by_name("edit")
ramp = GstController.InterpolationControlSource(mode=GstController.InterpolationMode.LINEAR)
for second, value in ((0.0, 0.0), (0.2, 0.0), (0.21, 1.5)):
    ramp.set(round(second * Gst.SECOND), value / 1.5)
element.add_control_binding(GstController.DirectControlBinding.new(element, "happy", ramp))
pipeline.set_state(Gst.State.PLAYING)
wanted = Gst.MessageType.EOS | Gst.MessageType.ERROR
message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, wanted)
print(message.type == Gst.MessageType.EOS, element.get_property("happy"))
pipeline.set_state(Gst.State.NULL)
"""


def test_a_control_binding_steers_an_emotion_by_the_time_of_the_frame(
    gst: dict[str, str], pictures: list[np.ndarray], tmp_path: Path
) -> None:
    given, taken = tmp_path / "given.raw", tmp_path / "taken.raw"
    raw = [padded(rgb) for rgb in pictures]
    given.write_bytes(b"".join(raw))
    pipeline = (
        f"filesrc location={given} ! rawvideoparse format=rgb width={SIZE[0]} height={SIZE[1]} "
        f"framerate={RATE}/1 ! mien name=edit ! filesink location={taken}"
    )
    ended = run(gst, sys.executable, "-c", RAMP, pipeline)
    assert ended.stdout.split() == ["True", "1.5"], ended.stderr
    whole, size = taken.read_bytes(), len(raw[0])
    is_same = [whole[at * size : (at + 1) * size] == raw[at] for at in range(FRAMES)]
    assert is_same == [True] * 6 + [False] * 2  # the sixth is that of 0.2 s


def test_what_it_can_be_told_is_listed(gst: dict[str, str]) -> None:
    ended = run(gst, "gst-inspect-1.0", "mien")
    assert ended.returncode == 0, ended.stderr
    told = ended.stdout
    assert "Changes the expression of the faces in a video" in told
    for name in (*EMOTIONS, "soften"):
        _, _, after = told.partition(f"\n  {name:20}: ")
        assert "controllable" in after.splitlines()[1]
        assert "1.5" in after.splitlines()[2]
    for name in ("method", "face", "provider", "watermark"):
        assert f"\n  {name:20}: " in told


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("method=nothing", "unknown method"),
        ("face=seven", "seven"),
        ("provider=abacus", "abacus"),
    ],
)
def test_what_makes_no_sense_ends_the_pipeline_with_a_line(
    gst: dict[str, str], told: str, said: str
) -> None:
    ended = run(gst, *LAUNCH, "videotestsrc", "num-buffers=1", "!", "mien", told, "!", "fakesink")
    assert ended.returncode != 0
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
