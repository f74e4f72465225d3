from __future__ import annotations

import json

import numpy as np
import pytest

from mien.engines import NETWORKS, EngineError, FakeEngine, Network, TensorSpec
from mien.engines.network import METADATA_KEY
from mien.runtime.target import EMOTIONS
from tests.engines.tiny import TINY, tiny_feeds, tiny_function

WRONG_OUTPUTS = {
    "missing": ({"total": None}, "add 'total'"),
    "extra": ({"other": np.zeros(1, np.float32)}, "leave out 'other'"),
    "dtype": ({"total": np.zeros((1, 1), np.int64)}, "output 'total': received int64"),
    "shape": ({"scaled": np.zeros((4,), np.float32)}, r"received float32 \(4,\)"),
    "infinite": ({"total": np.full((1, 1), np.inf, np.float32)}, "NaN or infinity"),
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


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_networks_are_static_float32_with_batch_one(network: Network) -> None:
    for spec in (*network.inputs, *network.outputs):
        assert spec.dtype == "float32"
        assert spec.shape[0] == 1
        assert all(side > 0 for side in spec.shape)


def test_target_inputs_have_a_weight_for_each_emotion() -> None:
    targets = [spec for net in NETWORKS for spec in net.inputs if spec.name == "target"]
    assert len(targets) == 2
    assert {spec.shape for spec in targets} == {(1, len(EMOTIONS))}


def test_a_call_that_is_right_makes_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_spec: TensorSpec) -> str:
        raise AssertionError("words for a message that nobody reads, in every call")

    monkeypatch.setattr(TensorSpec, "__str__", refuse)
    with FakeEngine(TINY, tiny_function) as engine:
        assert engine.infer(tiny_feeds()).keys() == {"scaled", "total"}
