from __future__ import annotations

import threading

import pytest

from mien.engines.errors import UsageError
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.target import parse_target, prompted_target


def test_settings_begin_as_given_and_change_together() -> None:
    controls = Controls(target="happy", face=2)
    assert controls.snapshot() == ControlState(target=parse_target("happy"), face="2")
    state = controls.update(target=parse_target("sad", 0.5), mark=True)
    assert state == controls.snapshot()
    assert (state.target, state.face, state.mark) == (parse_target("sad", 0.5), "2", True)
    assert controls.update(target=None).target is None
    assert controls.update(target="happy").target == parse_target("happy")
    assert controls.update(target="none").target is None


def test_the_version_grows_with_a_change_only() -> None:
    controls = Controls()
    first = controls.update(paused=True).version
    assert first > 0
    assert controls.update(paused=True).version == first
    assert controls.update(paused=False).version > first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "hapy"}, "did you mean 'happy'"),
        ({"target": 3}, "a target is"),
        ({"face": "left"}, "cannot choose the face"),
        ({"face": True}, "cannot choose the face"),
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"method": "parts", "options": {"gan": 1}}, "gan is a word, not 1"),
        ({"method": "parts", "options": {"blend": "mix"}}, "unknown blend 'mix'"),
        ({"method": "parts", "options": {"side": "left"}}, "has no option side"),
        ({"options": {"gan": "stargan"}}, "the method warp has no option gan; leave gan out"),
        ({"options": "gan"}, "options are names with values"),
        ({"options": 3}, "options are names with values"),
        ({"mark": "yes"}, "on or off"),
        ({"own": 0.2}, r"lies in 0.25..1.5, not 0.2"),
        ({"own": True}, r"lies in 0.25..1.5, not True"),
        ({"own": "soft"}, r"lies in 0.25..1.5, not 'soft'"),
        ({"scales_own": True}, "no setting 'scales_own'"),
        ({"volume": 3}, "no setting 'volume'"),
        ({"version": 3}, "no setting 'version'"),
    ],
)
def test_nonsense_is_refused_and_nothing_changes(changes: dict[str, object], message: str) -> None:
    controls = Controls(target="happy")
    before = controls.snapshot()
    with pytest.raises(UsageError, match=message):
        controls.update(paused=True, **changes)
    assert controls.snapshot() == before


def test_an_own_expression_that_the_method_cannot_scale_is_refused() -> None:
    controls = Controls(method="parts")
    assert not controls.snapshot().scales_own
    with pytest.raises(UsageError, match="the method parts cannot soften or amplify"):
        controls.update(own=0.5, mark=True)
    assert (controls.snapshot().own, controls.snapshot().mark) == (1, False)
    state = controls.update(own=0.5, method="warp")
    assert (state.own, state.scales_own) == (0.5, True)
    with pytest.raises(UsageError, match="the method parts cannot soften or amplify"):
        controls.update(method="parts")
    assert (controls.snapshot().own, controls.snapshot().method) == (0.5, "warp")


def test_what_a_method_can_make_holds_for_it_alone() -> None:
    controls = Controls(method="parts", options={"gan": "cyclegan"})
    for method, options in (("warp", ()), ("parts", ()), ("parts", (("gan", "stargan"),))):
        controls.limit(("happy",), method, options)
        assert controls.update(target="sad").target == parse_target("sad")
    controls.limit(("happy",), "parts", (("gan", "cyclegan"),))
    with pytest.raises(UsageError, match="the method parts cannot make a face angry"):
        controls.update(target="angry")
    assert controls.update(options={}, target="angry").target == parse_target("angry")


def test_options_are_those_of_the_method() -> None:
    controls = Controls(method="parts")
    state = controls.update(options={"gan": "cyclegan", "blend": "paste"})
    assert state.options == (("blend", "paste"), ("gan", "cyclegan"))
    assert controls.update(mark=True).options == state.options
    assert controls.update(method="parts").options == state.options
    version = controls.snapshot().version
    assert controls.update(options=[("gan", "cyclegan"), ("blend", "paste")]).version == version
    assert controls.update(options={"gan": None, "blend": "field"}).options == (("blend", "field"),)
    assert controls.update(method="warp").options == ()  # another method's mean nothing to it


def test_a_prompt_is_for_the_methods_that_read_one() -> None:
    controls = Controls(method="emm")
    wanted = prompted_target("a surprised face", 0.5)
    state = controls.update(target=wanted)
    assert (state.prompt, state.takes_prompt) == ("a surprised face", True)
    # Another method leaves the words behind, and the face calm.
    assert controls.update(method="warp").target == parse_target("neutral", 0.5)
    with pytest.raises(UsageError, match="the method warp takes no prompt"):
        controls.update(target=wanted)
    assert controls.update(method="emm", target=wanted).target == wanted


def test_an_option_that_is_an_edit_by_itself_needs_no_target() -> None:
    controls = Controls()
    state = controls.update(method="directions", options={"attribute": "smiling:+1"})
    assert state.target == parse_target("neutral")
    assert controls.update(target=None).target is None  # none is none
    assert controls.update(options={"layers": "fine"}).target is None
    assert Controls(target="happy", method="directions").update(
        options={"attribute": "smiling:+1"}
    ).target == parse_target("happy")


def test_listeners_hear_of_changes_until_they_stop() -> None:
    controls, heard = Controls(), []
    end = controls.listen(heard.append)
    controls.update(mark=True)
    controls.update(mark=True)
    end()
    end()
    controls.update(mark=False)
    assert [state.mark for state in heard] == [True]


def test_changes_from_many_threads_are_all_counted() -> None:
    controls = Controls()

    def turn(number: int) -> None:
        for step in range(50):
            controls.update(face=100 * number + step + 1)

    threads = [threading.Thread(target=turn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert controls.snapshot().version == 200
