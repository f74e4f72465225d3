from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mien.engines import NETWORKS, EngineError, FakeEngine, ModelError, Network, TensorSpec
from mien.engines.network import METADATA_KEY
from mien.runtime.target import EMOTIONS
from tests.engines.tiny import TINY, tiny_feeds, tiny_function

WRONG_OUTPUTS = {
    "missing": ({"total": None}, "add 'total'"),
    "extra": ({"other": np.zeros(1, np.float32)}, "leave out 'other'"),
    "dtype": ({"total": np.zeros((1, 1), np.int64)}, "output 'total': received int64"),
    "shape": ({"scaled": np.zeros((4,), np.float32)}, r"received float32 \(4,\)"),
    "infinite": ({"total": np.full((1, 1), np.inf, np.float32)}, "NaN or infinity"),
    "no number": ({"total": np.full((1, 1), np.nan, np.float32)}, "NaN or infinity"),
    "absurd": ({"total": np.full((1, 1), -1e30, np.float32)}, "reaches 1e\\+30, expected 1e\\+12"),
}


@pytest.mark.parametrize("change", WRONG_OUTPUTS.values(), ids=WRONG_OUTPUTS)
def test_wrong_outputs_of_a_backend_are_an_error(
    change: tuple[dict[str, np.ndarray | None], str],
) -> None:
    changed, message = change

    def function(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        results = {**tiny_function(feeds), **changed}
        return {name: value for name, value in results.items() if value is not None}

    with pytest.raises(EngineError, match=message):
        FakeEngine(TINY, function).infer(tiny_feeds())


def test_metadata_states_the_declaration_and_nothing_else_matches() -> None:
    metadata = TINY.metadata()
    assert json.loads(metadata[METADATA_KEY])["inputs"][1]["range"] == [0.0, 2.0]
    assert TINY.matches_metadata({**metadata, "more": "facts"})
    assert not TINY.matches_metadata({})
    other = Network("tiny", (TensorSpec("x", (1, 4)),), TINY.outputs)
    assert not other.matches_metadata(metadata)


def test_bound_of_an_output_is_no_part_of_what_a_graph_states() -> None:
    near = Network("tiny", TINY.inputs, tuple(replace(spec, most=2.0) for spec in TINY.outputs))
    assert near.metadata() == TINY.metadata()
    assert near == TINY == Network.from_metadata(near.metadata())
    with pytest.raises(EngineError, match="output 'scaled' reaches 4, expected 2 at most"):
        near.check_outputs({"scaled": np.full((1, 4), 4, "f4"), "total": np.ones((1, 1), "f4")})


def stated(**changed: object) -> str:
    """What a graph states of a network with one input, of which some is changed."""
    spec = {"name": "x", "shape": [1, 4], "dtype": "float32", "range": None, "colour": "none"}
    return json.dumps({"name": "tiny", "inputs": [spec | changed], "outputs": []})


HOSTILE = {
    "no JSON": "{",
    "a number": "7",
    "no network": "{}",
    "nested": "[" * 100_000,
    "5,000 digits": stated().replace("[1, 4]", "[" + "9" * 5_000 + "]"),
    "infinite": stated().replace("[1, 4]", "[Infinity]"),
    "huge": stated(shape=[1 << 60]),
    "empty side": stated(shape=[0]),
    "fraction": stated(shape=[1.5]),
    "truth": stated(shape=[True]),
    "no shape": stated(shape="14"),
    "thousand sides": stated(shape=[1] * 1000),
    "dtype of numpy's": stated(dtype="(1000000000,)f4"),
    "dtype that is none": stated(dtype="float33"),
    "dtype that is a list": stated(dtype=[["a", "f4"]]),
    "range of 400 digits": stated().replace("null", "[0, " + "9" * 400 + "]"),
    "infinite range": stated().replace("null", "[0, Infinity]"),
    "no range": stated().replace("null", "[0, NaN]"),
    "range of one": stated(range=[1]),
    "colour": stated(colour="red"),
    "name that is none": stated(name=["x"]),
    "long name": stated(name="x" * 100_000),
    "many": json.dumps({"name": "tiny", "inputs": [json.loads(stated())["inputs"][0]] * 2,
                        "outputs": []}),
    "side that is a number": json.dumps({"name": "tiny", "inputs": 3, "outputs": []}),
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_no_exporter_states_is_a_model_error(text: str) -> None:
    with pytest.raises(ModelError, match="does not state which network it is"):
        Network.from_metadata({METADATA_KEY: text})
    assert Network.from_metadata({METADATA_KEY: stated()}).inputs == (TensorSpec("x", (1, 4)),)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_networks_are_static_float32_with_batch_one(network: Network) -> None:
    for spec in (*network.inputs, *network.outputs):
        assert spec.dtype == "float32"
        assert spec.shape[0] == 1
        assert all(side > 0 for side in spec.shape)


def test_target_inputs_have_a_weight_for_each_emotion() -> None:
    targets = [spec for net in NETWORKS for spec in net.inputs if spec.name == "target"]
    assert len(targets) == 1
    assert {spec.shape for spec in targets} == {(1, len(EMOTIONS))}


def test_a_call_that_is_right_makes_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_spec: TensorSpec) -> str:
        raise AssertionError("words for a message that nobody reads, in every call")

    monkeypatch.setattr(TensorSpec, "__str__", refuse)
    with FakeEngine(TINY, tiny_function) as engine:
        assert engine.infer(tiny_feeds()).keys() == {"scaled", "total"}
