from pathlib import Path

import numpy as np
import onnx
import pytest

from mien.calibration.judges.classifier import EmotionClassifier
from mien.calibration.judges.features import (
    ClassifierFeatures,
    InceptionFeatures,
    InputRange,
    features_tensor,
    with_output,
)
from mien.engines import ModelError, UsageError
from tests.calibration.networks import write_classifier, write_inception


def striped() -> np.ndarray:
    """A face that is black, grey and white from top to bottom."""
    return np.repeat(np.array([0.0, 0.5, 1.0], np.float32), 16)[:, None] + np.zeros((1, 48), "f4")


def test_the_classifiers_features_are_what_enters_its_last_layer(tmp_path):
    features = ClassifierFeatures(write_classifier(tmp_path / "judge.onnx"))
    assert features.dimensions == 3
    np.testing.assert_allclose(features(striped()), [0.0, 0.5, 1.0], atol=1e-6)


def test_the_classifiers_distance_is_never_called_fid(tmp_path):
    features = ClassifierFeatures(write_classifier(tmp_path / "judge.onnx"))
    assert features.distance_name == "Frechet distance, emotion classifier features"


def test_a_tapped_file_is_an_onnx_file_with_one_more_output_and_all_else_as_it_was(tmp_path):
    path = write_classifier(tmp_path / "judge.onnx")
    before = onnx.load(str(path))
    after = onnx.load_from_string(with_output(path.read_bytes(), "seen"))
    onnx.checker.check_model(after, full_check=True)
    assert [value.name for value in after.graph.output] == ["probabilities", "seen"]
    del after.graph.output[1:]
    assert after == before
    EmotionClassifier.load(path)  # the file itself is as it was


def test_a_network_without_a_fully_connected_layer_has_no_features(tmp_path):
    node = onnx.helper.make_node("Identity", ["face"], ["warped"])
    path = tmp_path / "other.onnx"
    graph = onnx.helper.make_graph([node], "other", [], [])
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(ModelError, match="no fully connected layer"):
        features_tensor(path.read_bytes(), path)


@pytest.mark.parametrize("content", [b"", b"a text, no model", b"\xff" * 40])
def test_a_file_that_is_no_network_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "judge.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"judge\.onnx") as refused:
        ClassifierFeatures(path)
    assert "\n" not in str(refused.value)


def test_a_truncated_classifier_is_refused(tmp_path):
    path = write_classifier(tmp_path / "judge.onnx")
    path.write_bytes(path.read_bytes()[:-70])
    with pytest.raises(ModelError, match=r"judge\.onnx is no ONNX file"):
        ClassifierFeatures(path)


def mean_seen(path: Path, input_range: InputRange | None = None) -> list[float]:
    """What an Inception that gives the mean of its picture says of black and of white."""
    features = InceptionFeatures(path, input_range=input_range)
    assert features.distance_name == "FID"
    answers = [features(np.full((48, 48), level, np.float32)) for level in (0, 1)]
    assert [answer.shape for answer in answers] == [(2048,)] * 2
    return [round(float(answer.mean()), 4) for answer in answers]


def test_an_inception_gets_the_range_that_its_metadata_states(tmp_path):
    path = write_inception(tmp_path / "i.onnx", facts={"mien.range": "[-1.0, 1.0]"})
    assert mean_seen(path) == [-1, 1]


def test_the_range_given_goes_before_the_range_stated(tmp_path):
    path = write_inception(tmp_path / "i.onnx", facts={"mien.range": "-1..1"})
    assert mean_seen(path, InputRange.parse("0..255")) == [0, 255]


def test_an_inception_of_unknown_range_is_refused(tmp_path):
    path = write_inception(tmp_path / "i.onnx")
    with pytest.raises(UsageError, match=r"add --inception-range"):
        InceptionFeatures(path)


@pytest.mark.parametrize("shape", [(1, 3, 20, 20), ("N", 3, "H", "W")])
def test_an_inception_of_one_picture_or_any_size_is_taken(tmp_path, shape):
    path = write_inception(tmp_path / "i.onnx", shape=shape)
    assert mean_seen(path, InputRange(0, 1)) == [0, 1]


@pytest.mark.parametrize("shape", [(4, 3, 16, 16), ("N", 1, 16, 16)])
def test_an_inception_that_takes_other_pictures_is_refused(tmp_path, shape):
    path = write_inception(tmp_path / "i.onnx", shape=shape)
    with pytest.raises(ModelError, match=r"takes pictures .*, but an Inception takes one"):
        InceptionFeatures(path, input_range=InputRange(0, 1))


def test_an_inception_that_gives_classes_is_refused(tmp_path):
    path = write_inception(tmp_path / "i.onnx", features=1000)
    with pytest.raises(ModelError, match="FID needs 2048 features"):
        InceptionFeatures(path, input_range=InputRange(0, 1))


@pytest.mark.parametrize("text", ["", "1", "1..0", "black..white", "0..1..2"])
def test_ranges_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="an input range is LOW"):
        InputRange.parse(text)
