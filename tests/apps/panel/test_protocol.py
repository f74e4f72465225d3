"""What is said on the WebSocket, and what it does to the loop."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mien.apps.edit.inputs import SAMPLE
from mien.apps.panel.parsing import parse_client_message
from mien.apps.panel.presets import STARTERS
from mien.apps.panel.protocol import (
    ApplyPreset,
    Change,
    ClientMessage,
    DeletePreset,
    Ping,
    ProtocolError,
    SavePreset,
    encode,
    target_of,
    weights_of,
)
from mien.apps.panel.steering import page_notices
from mien.engines.errors import ModelError
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.live.sources.source import open_source
from mien.runtime.methods import method_options, method_spec
from mien.runtime.target import EMOTIONS, parse_target, prompted_target
from tests.apps.panel.stand_in import (
    EVENT_S,
    TOKEN,
    OneWayFilter,
    RunningPanel,
    SquareFilter,
    receive,
    running_panel,
    send,
)
from tests.runtime.live.virtual import until


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[RunningPanel]:
    with running_panel(tmp_path) as panel:
        yield panel


SEE_MORE = " (the terminal where mien runs says more)"
NO_WEIGHTS = dict.fromkeys(EMOTIONS, 0.0)


@pytest.mark.parametrize(
    "message",
    [
        Change(target={**NO_WEIGHTS, "happy": 0.7, "surprised": 0.3}, intensity=1.5),
        Change(face="largest"),
        Change(face=3, method="warp", gan="stargan"),
        Change(paused=False, mark=True),
        Change(own=0.25),
        Change(method="parts", options={"gan": "cyclegan", "blend": "paste"}),
        Change(options={}),
        SavePreset("süß"),
        SavePreset("sad", {**NO_WEIGHTS, "sad": 1.0}, 0.0),
        DeletePreset("x"),
        ApplyPreset("x"),
        Ping(12.5),
    ],
)
def test_messages_are_read_as_they_were_written(message: ClientMessage) -> None:
    assert parse_client_message(encode(message)) == message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"type": "set", "target": {"hapy": 1}}', "did you mean 'happy'"),
        ('{"type": "set", "target": {"happy": 1.5}}', "target must be a number in 0..1"),
        ('{"type": "set", "target": {"happy": true}}', "target must be a number in 0..1"),
        ('{"type": "set", "target": "happy"}', "target must be an object"),
        ('{"type": "set", "intensity": 1.6}', "intensity must be a number in 0..1.5"),
        ('{"type": "set", "own": 0.2}', "own must be a number in 0.25..1.5"),
        ('{"type": "set", "own": null}', "own must be a number in 0.25..1.5"),
        ('{"type": "set", "intensity": "1"}', "intensity must be a number in 0..1.5"),
        ('{"type": "set", "face": 0}', "face must be all, largest, or a number"),
        ('{"type": "set", "face": true}', "face must be all, largest, or a number"),
        ('{"type": "set", "mark": "on"}', "must be true or false"),
        ('{"type": "set", "color": 1}', "unknown field 'color'"),
        ('{"type": "preset_save"}', "1 to 40 printable characters"),
        ('{"type": "preset_save", "name": "a\\nb"}', "1 to 40 printable characters"),
        ('{"type": "preset_save", "name": "\\ud800"}', "1 to 40 printable characters"),
        ('{"type": "preset_apply", "name": "' + "x" * 41 + '"}', "1 to 40 printable characters"),
        ('{"type": "ping", "t": -1}', "t must be a number"),
        ('{"type": "hello"}', "unknown type of message (known: set, preset_save"),
        ("7", "must be a JSON object"),
        ("", "this is not JSON"),
    ],
)
def test_messages_that_make_no_sense_say_why(text: str, told: str) -> None:
    with pytest.raises(ProtocolError) as error:
        parse_client_message(text)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_that_are_too_much_are_scaled_and_none_is_no_target() -> None:
    target = target_of({"happy": 1.0, "sad": 1.0}, 0.5)
    assert target is not None
    assert weights_of(target) == {**NO_WEIGHTS, "happy": 0.5, "sad": 0.5}
    assert target.strength == 0.5
    assert target_of(NO_WEIGHTS, 1.0) is None
    assert weights_of(None) == NO_WEIGHTS


def test_hello_tells_what_there_is(panel: RunningPanel) -> None:
    with panel.websocket() as websocket:
        hello = receive(websocket, "hello")
    assert hello["version"] == 1
    assert hello["emotions"] == list(EMOTIONS)
    assert hello["methods"]["warp"] == []
    assert hello["methods"]["parts"] == ["stargan", "cyclegan"]
    assert hello["method_help"]["warp"] == method_spec("warp").help
    assert hello["method_options"]["warp"] == []
    gan, blend = hello["method_options"]["parts"]
    assert gan["values"] == ["stargan", "cyclegan"]
    help_text = method_options()["blend"].help
    assert blend == {
        "name": "blend",
        "help": help_text,
        "values": ["field", "paste"],
        "bounds": None,
        "default": "field",
    }
    assert hello["hotkeys"]["2"] == "happy"
    assert hello["state"]["target"] == NO_WEIGHTS


def test_a_blend_is_set_and_goes_with_its_method(tmp_path: Path) -> None:
    made: list[tuple[str, dict[str, object]]] = []

    class Watched(OneWayFilter):
        def __init__(self, state: ControlState) -> None:
            made.append((state.method, dict(state.options)))
            super().__init__(state)

    controls = Controls(method="parts", target="happy")
    with (
        running_panel(tmp_path, filters=Watched, controls=controls) as panel,
        panel.websocket() as websocket,
    ):
        assert receive(websocket, "hello")["state"]["options"] == {}
        send(websocket, type="set", options={"blend": "paste"})
        assert receive(websocket, "state")["options"] == {"blend": "paste"}
        assert until(lambda: made[-1] == ("parts", {"blend": "paste"}))
        send(websocket, type="set", method="parts", gan="cyclegan")
        while (state := receive(websocket, "state"))["gan"] != "cyclegan":
            pass
        assert state["options"] == {"gan": "cyclegan", "blend": "paste"}
        send(websocket, type="set", options={"gan": "stargan"})
        while (state := receive(websocket, "state"))["gan"] != "stargan":
            pass
        assert state["options"] == {"gan": "stargan"}
        send(websocket, type="set", method="warp")
        state = receive(websocket, "state")
        while state["method"] != "warp":
            state = receive(websocket, "state")
        assert (state["gan"], state["options"]) == (None, {})
        send(websocket, type="set", options={"blend": "paste"})
        told = "the method warp has no option blend; leave blend out (it has none)"
        assert receive(websocket, "error")["text"] == told


def test_everybody_hears_of_a_change_whoever_made_it(panel: RunningPanel) -> None:
    with panel.websocket() as one, panel.websocket() as other:
        receive(one, "hello")
        receive(other, "hello")
        send(one, type="set", target={"happiness": 0.8, "sad": 0.2}, intensity=1.2, face=2)
        for websocket in (one, other):
            state = receive(websocket, "state")
            assert state["target"] == {**NO_WEIGHTS, "happy": 0.8, "sad": 0.2}
            assert (state["intensity"], state["face"]) == (1.2, 2)
        now = panel.loop.controls.snapshot()
        assert now.target == parse_target("happy:0.8+sad:0.2", 1.2)
        assert now.face == "2"
        panel.loop.controls.update(mark=True)  # as another part of the program would
        while not receive(other, "state")["mark"]:
            pass


def test_intensity_is_kept_while_there_is_no_target(panel: RunningPanel) -> None:
    with panel.websocket() as websocket:
        send(websocket, type="set", intensity=0.4)
        assert receive(websocket, "state")["intensity"] == 0.4
        assert panel.loop.controls.snapshot().target is None
        send(websocket, type="set", target={"angry": 1})
        while receive(websocket, "state")["target"]["angry"] != 1:
            pass
        target = panel.loop.controls.snapshot().target
        assert target is not None
        assert target.strength == 0.4
        send(websocket, type="set", target=None)
        while receive(websocket, "state")["target"]["angry"]:
            pass
        assert panel.loop.controls.snapshot().target is None


def test_setting_the_loop_refuses_is_told_in_one_line(panel: RunningPanel) -> None:
    with panel.websocket() as websocket:
        for _ in range(5):  # these are no reason to close the line
            send(websocket, type="set", method="no-such-method")
            assert "unknown method 'no-such-method'" in receive(websocket, "error")["text"]
        send(websocket, type="preset_apply", name="nobody")
        assert "no preset 'nobody'" in receive(websocket, "error")["text"]


def test_presets_are_kept_in_a_file_and_shown_to_all(panel: RunningPanel, tmp_path: Path) -> None:
    with panel.websocket() as one, panel.websocket() as other:
        receive(other, "hello")
        send(one, type="set", target={"happy": 1}, intensity=0.7)
        send(one, type="preset_save", name="Monday")
        send(one, type="preset_save", name="party", target={"surprised": 1}, intensity=1.5)
        while len(receive(other, "presets")["presets"]) < 2 + len(STARTERS):
            pass
        for name in ("party", *(preset.name for preset in STARTERS)):
            send(one, type="preset_delete", name=name)
        while len(presets := receive(other, "presets")["presets"]) > 1:
            pass
        expected = {"name": "Monday", "target": {**NO_WEIGHTS, "happy": 1.0}, "intensity": 0.7}
        assert presets == [expected]
        send(one, type="set", target={}, intensity=0.1)
        send(one, type="preset_apply", name="Monday")
        while receive(other, "state")["intensity"] != 0.7:
            pass
    assert panel.loop.controls.snapshot().target == parse_target("happy", 0.7)
    kept = json.loads((tmp_path / "config" / "presets.json").read_text(encoding="utf-8"))
    assert kept["presets"] == [expected]
    with running_panel(tmp_path) as next_time, next_time.websocket() as websocket:
        assert receive(websocket, "hello")["presets"] == [expected]


def test_starter_presets_are_there_until_somebody_deletes_them(tmp_path: Path) -> None:
    with running_panel(tmp_path) as panel, panel.websocket() as websocket:
        presets = receive(websocket, "hello")["presets"]
        assert [preset["name"] for preset in presets] == [preset.name for preset in STARTERS]
        assert len(presets) == 3
        send(websocket, type="preset_apply", name=presets[0]["name"])
        while receive(websocket, "state")["target"] != presets[0]["target"]:
            pass
        assert not (tmp_path / "config").exists()  # nothing is written before somebody changes one
        for preset in presets:
            send(websocket, type="preset_delete", name=preset["name"])
        while receive(websocket, "presets")["presets"]:
            pass
    with running_panel(tmp_path) as next_time, next_time.websocket() as websocket:
        assert receive(websocket, "hello")["presets"] == []


def test_damaged_presets_are_reported_and_left_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "config" / "presets.json"
    path.parent.mkdir()
    path.write_text('{"version": 1, "presets": [{"name": "x", "target": {"happy": 7}}]}')
    with running_panel(tmp_path) as panel, panel.websocket() as websocket:
        assert receive(websocket, "hello")["presets"] == []
        assert any(
            "presets.json cannot be read" in m for m in receive(websocket, "stats")["messages"]
        )
        assert '"happy": 7' in path.read_text(encoding="utf-8")


def test_stats_and_faces_say_how_it_goes(panel: RunningPanel) -> None:
    with panel.websocket() as websocket:
        assert panel.get(f"/frame.jpg?token={TOKEN}")[0] == 200
        stats = receive(websocket, "stats")
        while not (stats["output_fps"] and stats["delay_ms"]["median"] is not None):
            stats = receive(websocket, "stats")
        assert stats["providers"] == {"square": "cpu"}
        assert stats["source"] == {
            "name": "pattern",
            "size_wh": [128, 96],
            "rate": 60.0,
            "pixel_format": "yuv420p",
        }
        assert [output["name"] for output in stats["outputs"]] == ["panel"]
        send(websocket, type="set", target={"happy": 1})
        faces = receive(websocket, "faces")["faces"]
        while not (faces and faces[0]["edited"]):
            faces = receive(websocket, "faces")["faces"]
        assert faces == [{"number": 1, "box": [0.375, 0.3333, 0.625, 0.6667], "edited": True}]


def test_a_target_that_the_method_cannot_make_is_refused_and_the_last_one_stays(
    tmp_path: Path,
) -> None:
    controls = Controls(method="parts", target="happy")
    with (
        running_panel(tmp_path, filters=OneWayFilter, controls=controls) as panel,
        panel.websocket() as websocket,
    ):
        assert receive(websocket, "hello")["state"]["emotions"] == ["happy"]
        for message in (
            {"type": "set", "target": {"angry": 1}},
            {"type": "set", "target": {"happy": 0.5, "sad": 0.5}},
            {"type": "preset_apply", "name": "Pleasant surprise"},
        ):
            send(websocket, **message)
            text = receive(websocket, "error")["text"]
            assert text.startswith("the method parts cannot make a face ")
            assert text.endswith(" (it can: happy)")
            assert controls.snapshot().target == parse_target("happy")
        send(websocket, type="set", method="warp", target={"angry": 1})
        state = receive(websocket, "state")
        while state["target"]["angry"] != 1 or state["emotions"] != list(EMOTIONS):
            state = receive(websocket, "state")
        while panel.loop.stats().method != "warp":
            receive(websocket, "stats")
        # Back with an angry face: the method stays, and so does the face.
        send(websocket, type="set", method="parts")
        while not (stats := receive(websocket, "stats"))["notices"]:
            pass
        told = "still using warp: the method parts cannot make a face angry (it can: happy)"
        assert stats["notices"] == [told]
        assert panel.loop.stats().method == "warp"
        assert controls.snapshot().method == "warp"
        assert controls.snapshot().target == parse_target("angry")


def test_a_prompt_is_set_where_the_method_reads_one(tmp_path: Path) -> None:
    controls = Controls(target="happy")
    with running_panel(tmp_path, controls=controls) as panel, panel.websocket() as websocket:
        state = receive(websocket, "hello")["state"]
        assert (state["prompt"], state["takes_prompt"]) == ("", False)
        send(websocket, type="set", prompt="a sad face")
        assert "the method warp takes no prompt" in receive(websocket, "error")["text"]
        send(websocket, type="set", prompt="a sad face", target={"sad": 1})
        assert "give either target or prompt" in receive(websocket, "error")["text"]
        send(websocket, type="set", prompt="a sad face " * 50)
        assert "prompt must be a text of at most 500" in receive(websocket, "error")["text"]
        send(websocket, type="set", method="emm", prompt="a sad face", intensity=0.5)
        state = receive(websocket, "state")
        while not state["prompt"]:
            state = receive(websocket, "state")
        assert state["takes_prompt"]
        assert not any(state["target"].values())
        assert controls.snapshot().target == prompted_target("a sad face", 0.5)
        send(websocket, type="set", prompt="")
        while state["prompt"]:
            state = receive(websocket, "state")
        assert controls.snapshot().target is None


def test_an_own_expression_is_scaled_where_the_method_can(tmp_path: Path) -> None:
    controls = Controls(method="parts")
    with (
        running_panel(tmp_path, filters=OneWayFilter, controls=controls) as panel,
        panel.websocket() as websocket,
    ):
        state = receive(websocket, "hello")["state"]
        assert (state["own"], state["scales_own"]) == (1.0, False)
        send(websocket, type="set", own=0.5)
        assert "the method parts cannot soften or amplify" in receive(websocket, "error")["text"]
        assert controls.snapshot().own == 1.0
        send(websocket, type="set", method="warp", own=0.5)
        state = receive(websocket, "state")
        while (state["method"], state["own"]) != ("warp", 0.5):
            state = receive(websocket, "state")
        assert state["scales_own"]
        send(websocket, type="preset_apply", name="Pleasant surprise")
        while not state["target"]["surprised"]:
            state = receive(websocket, "state")
        assert state["own"] == 0.5  # which a preset leaves


def test_each_message_that_is_not_done_gets_an_error_of_its_own(panel: RunningPanel) -> None:
    wrong = (
        ({"type": "set", "intensity": 9}, "intensity must be a number in 0..1.5"),
        ({"type": "set", "colour": 1}, "unknown field 'colour'"),
    )
    with panel.websocket() as websocket:
        receive(websocket, "hello")
        for _ in range(8):
            for message, _ in wrong:
                send(websocket, **message)
            send(websocket, type="preset_apply", name="nobody")
        for _ in range(8):
            for _, told in wrong:
                assert told in receive(websocket, "error")["text"]
            assert "no preset 'nobody'" in receive(websocket, "error")["text"]


def test_the_camera_runs_while_a_script_listens_that_looks_at_no_picture(tmp_path: Path) -> None:
    with running_panel(tmp_path, idle_after_s=0.2) as panel:
        with panel.websocket() as websocket:
            while receive(websocket, "stats")["state"] != "running":
                pass
            frames = panel.loop.stats().shown
            for _ in range(3):  # half a second each
                stats = receive(websocket, "stats")
                assert stats["state"] == "running"
            assert panel.loop.stats().shown > frames
            assert panel.server.preview.viewers == 0
        end_s = time.monotonic() + EVENT_S
        while panel.loop.stats().state != "idle":
            assert time.monotonic() < end_s
            time.sleep(0.05)


def test_stats_say_how_long_decoding_and_encoding_take(tmp_path: Path) -> None:
    with running_panel(tmp_path) as panel, panel.websocket() as websocket:
        assert "encode" not in receive(websocket, "stats")["stages_ms"]
        assert panel.get(f"/frame.jpg?token={TOKEN}")[0] == 200
        panel.loop.use_source(open_source(str(SAMPLE))).close()
        stats = receive(websocket, "stats")
        while "decode" not in stats["stages_ms"]:
            stats = receive(websocket, "stats")
        assert list(stats["stages_ms"]) == ["decode", "edit", "encode"]
        assert all(0 <= stage_ms < 5000 for stage_ms in stats["stages_ms"].values())
        assert stats["preview"]["encode_ms"] == stats["stages_ms"]["encode"]


def test_what_the_page_shows_names_no_option_and_each_thing_once(tmp_path: Path) -> None:
    made: list[SquareFilter] = []

    def make(state: ControlState) -> SquareFilter:
        if state.method != "warp":
            raise ModelError("cannot read the model x.onnx; install mien again, or check --models")
        made.append(SquareFilter(state))
        return made[-1]

    with running_panel(tmp_path, filters=make) as panel, panel.websocket() as websocket:
        send(websocket, type="set", method="parts")
        while not (stats := receive(websocket, "stats"))["notices"]:
            pass
        told = f"still using warp: cannot read the model x.onnx{SEE_MORE}"
        assert stats["notices"] == stats["messages"] == [told]
        made[0].error = ModelError("the run failed; use --provider cpu")
        while not (stats := receive(websocket, "stats"))["bypassed"]:
            pass
        text = f"The video is left unchanged: the run failed{SEE_MORE}"
        assert stats["notices"] == [text]


SLOW = "the machine is too slow: 12% of the frames are dropped; ask for a smaller --size"
LESS = "the machine is too slow: faces are looked for less often, previews are smaller"
LOCKED = "the virtual camera /dev/video10 is locked to 640x480; close the program that feeds it"


@pytest.mark.parametrize(
    ("messages", "adaptations", "shown"),
    [
        ((), (), ()),
        ((), (LESS,), ("This computer is at its limit",)),
        ((SLOW,), (LESS,), ("This computer is too slow: 12% of the frames",)),
        ((f"{LOCKED}, or use --size 640x480",), (), (LOCKED,)),
        (("camera: gone for 1 s", "gone for 2.5 s", "else"), (), ("camera: gone for 1 s", "else")),
        (("use --provider cpu",), (), ("this does not work",)),
        (
            ("cam cannot be had now, the last frame is held (gone)",),
            (),
            ("cam is not available now; the last frame stays (gone)",),
        ),
        (("no ONNX Runtime with it: use --provider cpu",), (), ("no ONNX Runtime with it (the",)),
        (("two names --a and --b",), (), ("this does not work",)),
        (("no names (run mien doctor); why",), (), ("no names; why",)),
    ],
)
def test_notices_are_about_what_the_page_has(
    messages: tuple[str, ...], adaptations: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    notices = page_notices(messages, adaptations)
    assert len(notices) == len(shown)
    for notice, start in zip(notices, shown, strict=True):
        assert notice.startswith(start)
        assert "--" not in notice
