import numpy as np
import pytest
import torch

from mien.engines import OnnxRuntimeEngine
from mien.engines.networks import EMOTION_CLASSIFIER, FER_SIZE
from mien.export.models.emotions import EmotionClassifier, export_classifier


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(1)
    model = EmotionClassifier(stages=((8, 1), (16, 2), (16, 1)))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
    return model.eval()


def test_the_exported_classifier_says_what_the_module_says(classifier, tmp_path):
    export_classifier(classifier, tmp_path / "judge.onnx", {"trained_on": "nothing"})
    faces = np.random.default_rng(2).random((4, 1, 1, FER_SIZE, FER_SIZE), np.float32)
    with OnnxRuntimeEngine(tmp_path / "judge.onnx", EMOTION_CLASSIFIER) as engine:
        for face in faces:
            found = engine.infer({"face": face})["probabilities"]
            with torch.no_grad():
                expected = classifier(torch.from_numpy(face)).softmax(1).numpy()
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_exposure_and_contrast_do_not_matter(classifier):
    face = torch.rand(2, 1, FER_SIZE, FER_SIZE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        bright, dim = classifier(face), classifier(face * 0.5 + 0.2)
    torch.testing.assert_close(bright, dim, atol=0.1, rtol=0.1)
