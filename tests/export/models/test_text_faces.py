"""FaceCLIP's encoders and generator: against the papers' text, and exported from public files."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mien.calibration.audit.examine import audit
from mien.engines import OnnxRuntimeEngine
from mien.engines.text_faces import WORDS
from mien.export.__main__ import main
from mien.export.models.inception import InceptionEncoder
from mien.export.models.text_faces import GeneratorSpec, TextEncoder, TextGenerator
from tests.export.checkpoints.files import Malicious, saved
from tests.export.public_latents import State, settled
from tests.export.public_text_faces import (
    SMALL,
    VOCABULARY,
    encoder_state,
    generator_state,
    slow_pictures,
    slow_sentence,
    write_captions,
)

TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}
PUBLIC = GeneratorSpec()


def exported(state: State, folder: Path, *arguments: str) -> Path:
    source, path = saved(state, folder / "netG_epoch_120.pth"), folder / "made.onnx"
    assert main([str(source), "-o", str(path), "--overwrite", *arguments]) == 0
    return path


def padded(words: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(words, (0, WORDS - words.shape[2]))


def check_lengths(state: State, spec: GeneratorSpec, path: Path, lengths: range) -> None:
    """Each length of sentence gives what a network of that very length gives."""
    chance = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=chance)

    with OnnxRuntimeEngine(path, "text_generator") as engine:
        for length in lengths:
            z, eps, sentence = draw(1, spec.noise), draw(1, spec.condition), draw(1, spec.nef)
            words = 0.4 * draw(1, spec.nef, length)
            feeds = {"z": z, "eps": eps, "words": padded(words), "sentence": sentence}
            feeds["present"] = (torch.arange(WORDS) < length).float()[None]
            found = engine.infer({name: tensor.numpy() for name, tensor in feeds.items()})
            with torch.no_grad():
                expected = slow_pictures(state, z, eps, words, sentence)
            assert found.keys() == expected.keys()
            for name, tensor in expected.items():
                result = torch.from_numpy(found[name])
                if name.startswith("attention"):
                    assert not result[:, length:].any()
                    result = result[:, :length]
                torch.testing.assert_close(result, tensor, **TOLERANCE)


KINDS = {
    "FaceCLIP": SMALL,
    "AttnGAN": replace(SMALL, has_channels=False),
    "two stages": replace(SMALL, stages=2, residuals=1),
    "DCGAN": replace(SMALL, has_channels=False, is_single=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_is_that_of_its_paper_at_every_length(kind: str, tmp_path: Path) -> None:
    state = generator_state(KINDS[kind])
    path = exported(state, tmp_path)
    lengths = range(1, WORDS + 1) if kind == "FaceCLIP" else range(1, WORDS + 1, 8)
    check_lengths(state, KINDS[kind], path, lengths)
    assert audit(path).is_clean


@pytest.mark.slow
def test_the_public_sizes_have_their_parity_at_every_length(tmp_path: Path) -> None:
    state = generator_state(PUBLIC)
    path = exported(state, tmp_path)
    check_lengths(state, PUBLIC, path, range(1, WORDS + 1, 6))
    assert audit(path).is_clean


def test_what_the_public_code_never_uses_is_left_out() -> None:
    with torch.device("meta"):
        used = sum(tensor.numel() for tensor in TextGenerator(PUBLIC).parameters())
    unused = 2 * (4096 + 16384) * 256 + (4096 + 16384) * 256
    assert round(unused / 1e6, 2) == 15.73
    assert round((used + unused) / 1e6, 2) == 28.65


def test_a_generator_in_a_batch_keeps_the_masks_of_its_sentences_apart() -> None:
    state = generator_state(SMALL)
    module = settled(TextGenerator(SMALL))
    lengths = (2, 9)
    words = 0.4 * torch.randn(2, SMALL.nef, WORDS)
    present = torch.stack([(torch.arange(WORDS) < length).float() for length in lengths])
    words = words * present[:, None]
    z, eps = torch.randn(2, SMALL.noise), torch.randn(2, SMALL.condition)
    sentence = torch.randn(2, SMALL.nef)
    with torch.no_grad():
        made = module(z, eps, words, sentence, present)
        for row, length in enumerate(lengths):
            one = slice(row, row + 1)
            expected = slow_pictures(state, z[one], eps[one], words[one, :, :length], sentence[one])
            torch.testing.assert_close(made[2][one], expected["image_256"], **TOLERANCE)


def check_sentences(state: State, path: Path, count: int) -> None:
    rng = np.random.default_rng(1)
    with OnnxRuntimeEngine(path, "text_encoder") as engine:
        for length in range(1, WORDS + 1):
            tokens = rng.integers(1, count, length).tolist()
            feeds = np.zeros((1, WORDS), np.int64)
            feeds[0, :length] = tokens
            found = engine.infer({"tokens": feeds})
            words, sentence = slow_sentence(state, tokens)
            torch.testing.assert_close(
                torch.from_numpy(found["words"][:, :, :length]), words, **TOLERANCE
            )
            assert not found["words"][:, :, length:].any()
            torch.testing.assert_close(torch.from_numpy(found["sentence"]), sentence, **TOLERANCE)
            assert found["present"][0].tolist() == [1.0] * length + [0.0] * (WORDS - length)


@pytest.mark.parametrize("is_public", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_text_encoder_is_an_lstm_of_each_length(is_public: bool, tmp_path: Path) -> None:
    count = len(VOCABULARY) + 1
    state = encoder_state(count, 300, 128) if is_public else encoder_state(count)
    captions = write_captions(tmp_path / "captions.pickle")
    path = exported(state, tmp_path, "--vocabulary", str(captions))
    check_sentences(state, path, count)
    facts = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert facts["mien.vocabulary"].split() == list(VOCABULARY)
    assert audit(path).is_clean


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([*map(str, arguments)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_a_text_encoder_wants_its_own_vocabulary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(encoder_state(len(VOCABULARY) + 1), tmp_path / "text_encoder550.pth")
    asked = (source, "-o", tmp_path / "made.onnx")
    assert "add --vocabulary captions.pickle" in refused(capsys, *asked)
    captions = write_captions(tmp_path / "captions.pickle", VOCABULARY[:-1])
    message = refused(capsys, *asked, "--vocabulary", captions)
    assert "has 8 tokens and" in message
    state = generator_state(SMALL)
    other = saved(state, tmp_path / "netG.pth")
    message = refused(capsys, other, "-o", tmp_path / "g.onnx", "--vocabulary", captions)
    assert "--vocabulary says nothing about" in message


BAD = {
    "code": (None, "call on posix.mkdir"),
    "no pickle": (b"captions", "is no pickle, or damaged"),
    "a list": (pickle.dumps([1, 2]), "holds no captions"),
    "gaps": (pickle.dumps([[], [], {0: "<end>", 2: "a"}, {}]), "with gaps"),
    "no words": (pickle.dumps([[], [], {0: "<end>", 1: "a b"}, {}]), "'a b' among its words"),
    "one word twice": (pickle.dumps([[], [], {0: "<end>", 1: "a", 2: "a"}, {}]), "a word twice"),
    "numbers": (pickle.dumps([[], [], {0: "<end>", 1: 5}, {}]), "5 among its words"),
    "cut off": (pickle.dumps([[], [], {0: "<end>"}, {}])[:-5], "is no pickle, or damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_of_captions_runs_nothing(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, captions = tmp_path / "was_here", tmp_path / "captions.pickle"
    content, told = BAD[kind]
    captions.write_bytes(pickle.dumps(Malicious(trace)) if content is None else content)
    source = saved(encoder_state(9), tmp_path / "text_encoder.pth")
    message = refused(capsys, source, "-o", tmp_path / "made.onnx", "--vocabulary", captions)
    assert told in message
    assert not trace.exists()
    assert not (tmp_path / "made.onnx").exists()


def test_a_generator_that_is_not_whole_is_named_with_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = generator_state(SMALL)
    del state["h_net3.residual.1.block.3.weight"]
    source = saved(state, tmp_path / "netG.pth")
    message = refused(capsys, source, "-o", tmp_path / "made.onnx")
    assert "FaceCLIP or AttnGAN generator, but it lacks" in message
    assert "h_net3.residual.1.block.3.weight" in message


@pytest.mark.slow
def test_an_image_encoder_is_an_inception(tmp_path: Path) -> None:
    """The public file has 22.5 M weights; its maps are 17 x 17."""
    module = settled(InceptionEncoder())
    path = exported(dict(module.state_dict()), tmp_path)
    image = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        code, regions = module(image)
    with OnnxRuntimeEngine(path, "text_image_encoder") as engine:
        found = engine.infer({"image": image.numpy()})
    torch.testing.assert_close(torch.from_numpy(found["code"]), code, atol=1e-3, rtol=1e-3)
    assert found["regions"].shape == tuple(regions.shape) == (1, 256, 17, 17)
    names = set(module.state_dict())
    assert "Mixed_6e.branch7x7dbl_5.bn.running_var" in names
    assert "Mixed_7c.branch3x3dbl_3b.conv.weight" in names
    assert audit(path).is_clean


def test_public_text_encoders_have_the_public_names() -> None:
    with torch.device("meta"):
        names = set(TextEncoder(50).state_dict())
    assert names == {"encoder.weight"} | {
        f"rnn.{kind}_{side}_l0{direction}"
        for kind in ("weight", "bias") for side in ("ih", "hh") for direction in ("", "_reverse")
    }  # fmt: skip
