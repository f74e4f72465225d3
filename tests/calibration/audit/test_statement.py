"""What a graph must state of itself."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from mien.calibration.audit.examine import audit
from mien.engines import Network, TensorSpec
from mien.engines.networks import EMOTION_CLASSIFIER
from tests.calibration.networks import write_classifier

WHOLE = EMOTION_CLASSIFIER.metadata() | {
    "mien.parity_error": "2e-7",
    "mien.paper": "a paper",
    "mien.classes": "neutral,happy,sad,surprised,fearful,disgusted,angry",
}


def restated(folder: Path, metadata: dict[str, str]) -> list[str]:
    """What is found in a classifier that states `metadata`."""
    path = write_classifier(folder / "judge.onnx")
    model = onnx.load(str(path))
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return [found.text for found in audit(path).findings if found.rule == "metadata"]


def test_whole_statement_passes(tmp_path: Path) -> None:
    assert restated(tmp_path, WHOLE) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mien.parity_error": None}, "parity_error, its error"),
        ({"mien.parity_error": "nan"}, "parity_error is nan"),
        ({"mien.parity_error": "0.2"}, "parity_error is 0.2"),
        ({"mien.paper": None}, "where it comes from"),
        ({"mien.classes": "neutral,happy"}, "2 words for 7 numbers"),
        ({"mien.network": None}, "does not state which network"),
        ({"mien.network": "[1, 2"}, "does not state which network"),
        ({"mien.network": '{"inputs": 5}'}, "does not state which network"),
    ],
)
def test_missing_or_wrong_fact_is_found(
    change: dict[str, str | None], words: str, tmp_path: Path
) -> None:
    metadata = {key: text for key, text in (WHOLE | change).items() if text is not None}
    (text,) = restated(tmp_path, metadata)
    assert words in text


def test_statement_of_another_network_is_found(tmp_path: Path) -> None:
    other = Network("stranger", EMOTION_CLASSIFIER.inputs, EMOTION_CLASSIFIER.outputs)
    (text,) = restated(tmp_path, WHOLE | other.metadata())
    assert "no network of mien is named 'stranger'" in text


def test_statement_that_the_graph_does_not_keep_is_found(tmp_path: Path) -> None:
    wide = TensorSpec("face", (1, 1, 48, 96), range=(0.0, 1.0), colour="luma")
    texts = restated(
        tmp_path, WHOLE | Network("judge", (wide,), EMOTION_CLASSIFIER.outputs).metadata()
    )
    assert len(texts) == 2
    assert "other inputs or outputs than the network 'judge' has" in texts[0]
    assert "its inputs are face float32 (1, 1, 48, 48), and it states face float32" in texts[1]


def test_generator_without_label_names_is_found(tmp_path: Path) -> None:
    other = Network("stargan_face", EMOTION_CLASSIFIER.inputs, EMOTION_CLASSIFIER.outputs)
    texts = restated(tmp_path, WHOLE | other.metadata())
    assert any("expected image (B, 3, S, S)" in text for text in texts)
