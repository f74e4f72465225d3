"""FP16 variants of what edits by way of another network, and of what edits nothing."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from mien.calibration.precision.quality import agreement_of, agreement_refusal
from mien.calibration.precision.run import Calibration
from mien.calibration.representative import SAMPLE, Clip, read_clips
from mien.engines.catalog import Catalog
from tests.runtime.methods.gan.networks import write_style_models


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return read_clips(SAMPLE / "portrait.jpg")


def test_the_judge_is_compared_with_itself_for_it_edits_nothing(clips: list[Clip]) -> None:
    variant = Calibration("judge", Catalog.bundled(), clips, data="a portrait").fp16()
    assert variant.model is not None
    assert TensorProto.FLOAT16 in {t.data_type for t in variant.model.graph.initializer}
    assert variant.card.quality is None
    agreement = variant.card.agreement
    assert agreement is not None
    assert agreement.inputs >= 3
    assert agreement.same_name == 1
    assert 0 < agreement.largest < 0.01
    assert "It edits nothing" in variant.card.markdown()
    assert "100.0 % alike" in variant.card.row()


def test_agreement_counts_names_and_finds_the_largest_difference() -> None:
    expected = [
        {"probabilities": np.array([[0.6, 0.4]])},
        {"probabilities": np.array([[0.1, 0.9]])},
    ]
    received = [
        {"probabilities": np.array([[0.4, 0.6]])},
        {"probabilities": np.array([[0.1, 0.9]])},
    ]
    found = agreement_of(expected, received)
    assert (found.inputs, found.same_name) == (2, 0.5)
    assert found.largest == pytest.approx(0.2)
    assert "names 50.0 % of the faces as in FP32 (at least 99)" in agreement_refusal(found, 0.99)
    assert not agreement_refusal(found, 0.5)


@pytest.mark.slow
def test_a_face_parser_is_checked_with_whichever_generator_there_is(
    tmp_path: Path, clips: list[Clip]
) -> None:
    written = Catalog.load(write_style_models(tmp_path)).entry("cyclegan_face")
    others = [e for e in Catalog.bundled().entries if not e.network.startswith(("star", "cycle"))]
    variant = Calibration(
        "face_parser", Catalog((written, *others)), clips, data="a portrait"
    ).fp16()
    assert variant.card.quality is not None
    assert variant.card.quality.psnr_db > 45
    assert variant.model is not None
    kept = variant.card.kept.keys()
    means = {n.name for n in variant.model.graph.node if n.op_type in ("ReduceMean", "Softmax")}
    assert means <= kept
