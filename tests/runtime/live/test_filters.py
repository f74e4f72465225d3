"""One method takes over from another while frames go on."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from fractions import Fraction
from types import ModuleType

import pytest

from mien.engines.errors import EngineError, ModelError, UsageError
from mien.runtime.frame import Frame
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.live.filters import FADE_S, FilterSwap
from mien.runtime.spec import MethodSpec
from mien.runtime.target import EMOTIONS, Target, parse_target, prompted_target
from tests.runtime.live.stand_ins import PATIENCE_S, FakeFilter, wait_until, yuv_frame


class Maker:
    """Makes fake filters, when the test lets it."""

    def __init__(self) -> None:
        self.made: list[FakeFilter] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, state: ControlState) -> FakeFilter:
        assert self.gate.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.made.append(FakeFilter(str(dict(state.options).get("gan", state.method))))
        return self.made[-1]


def choose(controls: Controls, gan: str) -> None:
    """Another method, with one of its options."""
    controls.update(method="parts", options={"gan": gan})


class Stage:
    """A swap with the clock of its frames."""

    def __init__(self, maker: Maker, controls: Controls) -> None:
        self.controls, self.swap, self.count = controls, FilterSwap(maker, controls), 0

    def show(self) -> Frame:
        frame = replace(yuv_frame(), pts=self.count, time_base=Fraction(1, 30))
        self.count += 1
        return self.swap.apply(frame, self.controls.snapshot())

    def show_until(self, name: str) -> None:
        def shown() -> bool:
            self.show()
            return self.swap.current.name == name  # type: ignore[attr-defined]

        wait_until(shown)


def test_the_old_filter_goes_on_until_the_new_one_is_ready() -> None:
    maker, controls = Maker(), Controls(target="happy")
    stage = Stage(maker, controls)
    maker.gate.clear()
    choose(controls, "stargan")
    for _ in range(40):
        stage.show()
    (old,) = maker.made
    assert all(target is not None for _, target in old.seen)
    maker.gate.set()
    stage.show_until("stargan")
    assert old.closed
    stage.swap.close()
    assert maker.made[1].closed


def test_the_edit_fades_out_of_the_old_and_into_the_new() -> None:
    maker, controls = Maker(), Controls(target="happy")
    stage = Stage(maker, controls)
    stage.show()
    choose(controls, "stargan")
    stage.show_until("stargan")
    for _ in range(3):
        stage.show()
    old, new = maker.made
    # From when the new one is ready, the old one is told to release the faces.
    resting = [target is None for _, target in old.seen]
    assert resting == sorted(resting)
    assert resting[-1]
    # The new one was warmed up and reset; its first frame has no target, so that it eases in.
    assert [target is None for _, target in new.seen[:4]] == [True, False, False, False]


def test_a_filter_that_does_not_release_is_taken_over_from_all_the_same() -> None:
    maker, controls = Maker(), Controls(target="happy")
    stage = Stage(maker, controls)
    (old,) = maker.made
    apply = old.apply

    def stubborn(frame: Frame) -> Frame:
        shown = apply(frame)
        old.edited = (1,)
        return shown

    old.apply = stubborn  # type: ignore[method-assign]
    choose(controls, "stargan")
    stage.show_until("stargan")
    resting = [time_s for time_s, target in old.seen if target is None]
    assert None not in resting
    assert len(resting) == pytest.approx(FADE_S * 30, abs=2)


def test_a_method_that_cannot_be_had_is_told_and_the_old_one_stays() -> None:
    maker, controls = Maker(), Controls(target="happy")
    stage = Stage(maker, controls)
    maker.error = ModelError("cannot read the model stargan.onnx")
    choose(controls, "stargan")

    def told() -> bool:
        stage.show()
        return stage.swap.message is not None

    wait_until(told)
    assert stage.swap.message == "still using warp: cannot read the model stargan.onnx"
    assert controls.snapshot().method == "warp"  # what is shown as chosen is what runs
    assert stage.show().planes[0].samples[0, 0] == 101
    maker.error = None
    choose(controls, "cyclegan")
    stage.show_until("cyclegan")
    assert stage.swap.message is None
    assert len(maker.made) == 2


def test_a_method_that_fails_on_its_first_frame_is_given_back() -> None:
    maker, controls = Maker(), Controls(target="happy")
    stage = Stage(maker, controls)

    def make_broken(state: ControlState) -> FakeFilter:
        made = maker(state)
        made.error = EngineError("the network does not run")
        return made

    stage.swap._make = make_broken
    choose(controls, "stargan")
    wait_until(lambda: stage.show() and stage.swap.message)
    old, broken = maker.made
    assert "the network does not run" in str(stage.swap.message)
    assert (old.closed, broken.closed) == (False, True)
    stage.swap.close()


def test_whoever_changes_his_mind_gets_the_last_choice() -> None:
    maker, controls = Maker(), Controls()
    stage = Stage(maker, controls)
    maker.gate.clear()
    choose(controls, "stargan")
    stage.show()
    choose(controls, "cyclegan")
    stage.show()
    maker.gate.set()
    stage.show_until("cyclegan")
    assert [made.name for made in maker.made] == ["warp", "stargan", "cyclegan"]
    assert [made.closed for made in maker.made] == [True, True, False]


def test_a_filter_that_is_ready_after_the_end_is_closed() -> None:
    maker, controls = Maker(), Controls()
    stage = Stage(maker, controls)
    maker.gate.clear()
    choose(controls, "stargan")
    stage.show()
    stage.swap.close()
    maker.gate.set()
    wait_until(lambda: len(maker.made) == 2 and maker.made[1].closed)


def test_face_target_and_spacing_reach_the_filter() -> None:
    maker, controls = Maker(), Controls(target="happy", face="largest")
    stage = Stage(maker, controls)
    stage.show()
    (made,) = maker.made
    assert (made.face, made.target) == ("largest", controls.snapshot().target)
    controls.update(face=2, target=None)
    stage.swap.apply(yuv_frame(), controls.snapshot(), spacing=3.0)
    assert (made.face, made.target, made.detection_spacing) == ("2", None, 3.0)


def test_a_frame_the_filter_fails_on_is_shown_as_it_came() -> None:
    maker, controls = Maker(), Controls(target="happy")
    stage = Stage(maker, controls)
    (made,) = maker.made
    made.error = EngineError("warp: the run failed on cuda: out of memory")
    frame = yuv_frame()
    assert stage.swap.apply(frame, controls.snapshot()) is frame
    assert "out of memory" in (stage.swap.message or "")
    made.error = None
    assert stage.swap.apply(frame, controls.snapshot()) is not frame
    assert stage.swap.message is None


def test_the_first_filter_is_run_once_before_it_is_needed() -> None:
    maker, frame = Maker(), yuv_frame()
    swap = FilterSwap(maker, Controls(target="happy"), warm_up_on=frame)
    (made,) = maker.made
    assert made.entered.acquire(blocking=False)
    assert made.seen == []  # and forgot what it saw
    swap.close()


def test_the_first_filter_has_to_be_there() -> None:
    maker = Maker()
    maker.error = UsageError("unknown method")
    with pytest.raises(UsageError, match="unknown method"):
        FilterSwap(maker, Controls())


class OneWay(FakeFilter):
    """Makes faces happy and nothing else, as the model of its generator has no other label."""

    def __setattr__(self, name: str, value: object) -> None:
        happy = EMOTIONS.index("happy")
        if name == "target" and isinstance(value, Target) and value.weights[happy] < 1:
            raise UsageError("the model cannot make it; use another --emotion or --method")
        super().__setattr__(name, value)


def _warp_or_one_way(state: ControlState) -> FakeFilter:
    return OneWay(state.method) if state.method == "parts" else FakeFilter(state.method)


def _is_edited(stage: Stage) -> bool:
    return bool(stage.show().planes[0].samples[0, 0] == 101)


def test_a_target_that_the_method_cannot_make_is_refused_and_the_last_one_stays() -> None:
    controls = Controls(target="happy", method="parts")
    stage = Stage(_warp_or_one_way, controls)
    stage.show()
    assert controls.snapshot().emotions == ("happy",)
    for wrong in ("angry", "happy:0.5+sad:0.5"):
        with pytest.raises(UsageError, match=r"parts cannot make a face \w+ \(it can: happy\)$"):
            controls.update(target=wrong)
        assert controls.snapshot().target == parse_target("happy")
        assert _is_edited(stage)
    assert stage.swap.message is None
    stage.swap.close()


def test_a_method_that_cannot_make_the_target_does_not_take_over() -> None:
    controls = Controls(target="angry")
    stage = Stage(_warp_or_one_way, controls)
    stage.show()
    assert controls.snapshot().emotions == EMOTIONS
    controls.update(method="parts")

    def told() -> bool:
        assert _is_edited(stage)
        return stage.swap.message is not None

    wait_until(told)
    told_now = "still using warp: the method parts cannot make a face angry (it can: happy)"
    assert stage.swap.message == told_now
    state = controls.snapshot()
    assert (state.method, state.target) == ("warp", parse_target("angry"))
    assert controls.update(target="sad").target == parse_target("sad")
    stage.swap.close()


def test_a_target_for_the_next_method_leaves_the_last_one_of_this_method_until_then() -> None:
    controls = Controls(target="happy", method="parts")
    gate = threading.Event()

    def make(state: ControlState) -> FakeFilter:
        assert state.method == "parts" or gate.wait(PATIENCE_S)
        return _warp_or_one_way(state)

    stage = Stage(make, controls)
    stage.show()
    controls.update(method="warp", target="angry")
    for _ in range(5):
        assert _is_edited(stage)
    gate.set()
    stage.show_until("warp")
    stage.show()
    assert stage.swap.current.target == parse_target("angry")
    assert controls.snapshot().emotions == EMOTIONS
    stage.swap.close()


def test_a_method_that_does_not_come_leaves_a_target_that_the_old_one_can_make() -> None:
    controls = Controls(target="happy", method="parts")

    def make(state: ControlState) -> FakeFilter:
        if state.method == "warp":
            raise ModelError("cannot read the model warp.onnx")
        return _warp_or_one_way(state)

    stage = Stage(make, controls)
    stage.show()
    controls.update(method="warp", target="angry")

    def is_back() -> bool:
        assert _is_edited(stage)
        return controls.snapshot().method == "parts"

    wait_until(is_back)
    assert controls.snapshot().target == parse_target("happy")
    assert controls.snapshot().emotions == ("happy",)
    stage.swap.close()


class Unscaled(FakeFilter):
    """Cannot scale a person's own expression."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "own" and value != 1:
            raise UsageError("this method cannot scale a person's own expression; warp can")
        super().__setattr__(name, value)


def _warp_or_unscaled(state: ControlState) -> FakeFilter:
    return Unscaled(state.method) if state.method == "parts" else FakeFilter(state.method)


def test_the_own_expression_reaches_the_filter_and_rests_while_another_method_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scaling = ModuleType("scaling_methods")
    scaling.METHODS = (MethodSpec("fold", "scales too", "never:opened", scales_own=True),)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, scaling.__name__, scaling)
    monkeypatch.setenv("MIEN_METHODS", scaling.__name__)
    maker, controls = Maker(), Controls(own=0.5)
    stage = Stage(maker, controls)
    stage.show()
    (old,) = maker.made
    assert (old.own, old.target) == (0.5, None)
    controls.update(own=1.25)
    stage.show()
    assert old.own == 1.25
    # as if it were being shown: the fade is waited for
    apply, owns = old.apply, []

    def stubborn(frame: Frame) -> Frame:
        owns.append(old.own)
        shown = apply(frame)
        old.edited = (1,)
        return shown

    old.apply = stubborn  # type: ignore[method-assign]
    controls.update(method="fold")
    stage.show_until("fold")
    assert owns == sorted(owns, reverse=True)
    assert owns.count(1.0) == pytest.approx(FADE_S * 30, abs=2)
    new = maker.made[1]
    assert new.own == 1.0  # on its first frame, so that it eases in
    stage.show()
    assert new.own == 1.25
    stage.swap.close()


def test_a_method_that_cannot_scale_the_own_expression_does_not_take_over() -> None:
    controls = Controls(own=0.5)
    stage = Stage(_warp_or_unscaled, controls)
    stage.show()
    assert controls.snapshot().scales_own
    told = r"parts cannot soften or amplify a person's own expression \(it shows it as it is: 1\)$"
    with pytest.raises(UsageError, match=told):
        controls.update(method="parts")
    stage.show()
    assert stage.swap.message is None
    assert (controls.snapshot().method, stage.swap.current.own) == ("warp", 0.5)
    controls.update(method="parts", own=1)
    stage.show_until("parts")
    assert not controls.snapshot().scales_own
    with pytest.raises(UsageError, match="parts cannot soften or amplify"):
        controls.update(own=0.5)
    stage.swap.close()


def test_a_method_that_does_not_come_leaves_an_own_expression_that_the_old_one_can_show() -> None:
    controls = Controls(target="happy", method="parts")

    def make(state: ControlState) -> FakeFilter:
        if state.method == "warp":
            raise ModelError("cannot read the model warp.onnx")
        return _warp_or_unscaled(state)

    stage = Stage(make, controls)
    stage.show()
    controls.update(method="warp", own=0.5)

    def is_back() -> bool:
        assert _is_edited(stage)
        return controls.snapshot().method == "parts"

    wait_until(is_back)
    assert (controls.snapshot().own, controls.snapshot().scales_own) == (1.0, False)
    stage.swap.close()


def test_an_own_expression_that_the_first_method_cannot_scale_is_refused_at_the_start() -> None:
    made: list[FakeFilter] = []

    def make(state: ControlState) -> FakeFilter:
        made.append(_warp_or_unscaled(state))
        return made[-1]

    with pytest.raises(UsageError, match="cannot scale a person's own expression"):
        FilterSwap(make, Controls(own=0.5, method="parts"))
    assert made[0].closed


def test_a_target_that_the_first_method_cannot_make_is_refused_at_the_start() -> None:
    made: list[FakeFilter] = []

    def make(state: ControlState) -> FakeFilter:
        made.append(_warp_or_one_way(state))
        return made[-1]

    with pytest.raises(UsageError, match="use another --emotion or --method"):
        FilterSwap(make, Controls(target="angry", method="parts"))
    assert made[0].closed


class Reader(FakeFilter):
    """Reads prompts about surprise alone."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "target" and isinstance(value, Target) and "glum" in value.prompt:
            raise UsageError(f"the prompt {value.prompt!r} says nothing")
        super().__setattr__(name, value)


def test_a_prompt_that_says_nothing_leaves_the_expression_as_it_was() -> None:
    controls = Controls(target=prompted_target("a surprised face"), method="emm")
    stage = Stage(lambda state: Reader(state.method), controls)  # type: ignore[arg-type]
    stage.show()
    controls.update(target=prompted_target("a glum one"))
    for _ in range(2):
        assert _is_edited(stage)
        current = stage.swap.current
        assert current.target == prompted_target("a surprised face")
    told = "the expression stays as it was: the prompt 'a glum one' says nothing"
    assert stage.swap.message == told
    assert controls.snapshot().prompt == "a surprised face"
    controls.update(target="sad")
    stage.show()
    assert stage.swap.current.target == parse_target("sad")
    stage.swap.close()


def test_a_prompt_that_another_method_cannot_read_leaves_method_and_target() -> None:
    controls = Controls(target="happy")
    stage = Stage(lambda state: Reader(state.method), controls)  # type: ignore[arg-type]
    stage.show()
    controls.update(method="emm", target=prompted_target("a glum one"))

    def is_back() -> bool:
        assert _is_edited(stage)
        return controls.snapshot().method == "warp"

    wait_until(is_back)
    assert controls.snapshot().target == parse_target("happy")
    stage.swap.close()
