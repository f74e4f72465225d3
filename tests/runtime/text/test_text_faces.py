"""Faces from sentences, through real networks of small sizes that were never trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mien.engines import Catalog, ModelError, UsageError
from mien.engines.text_faces import VOCABULARY_KEY, WORDS
from mien.runtime.text import TextFaces, draw_faces
from mien.runtime.text.attention import attention_sheet, heated
from mien.runtime.text.faces import grid_of, pixels_of
from mien.runtime.text.ranking import cosine
from mien.runtime.text.sentence import Sentence, Vocabulary
from tests.runtime.text.networks import write_text_models

PROMPT = "A happy woman with raised brows"
BAD = {
    "": "the description '' has no word",
    "  ...!": "has no word",
    "zebra quux": "says nothing that this model knows; it knows happy, woman, 2, raised, brows",
    "a hapy": "did you mean 'happy'?",
    "a with a": "says nothing that this model knows",
    "happy " * 10_000: "a description may have 500 characters, not 60000",
    "happy " * 26: "the description has 26 known words, and this model reads 25",
}


@pytest.fixture(scope="module")
def models(text_models: Path) -> Path:
    return text_models


@pytest.fixture(scope="module")
def faces(models: Path) -> TextFaces:
    return TextFaces.open(Catalog.load(models))


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_sentence_that_cannot_be_drawn_is_refused_in_one_line(
    text: str, faces: TextFaces
) -> None:
    with pytest.raises(UsageError) as caught:
        faces.read(text)
    assert BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sentence_is_read_as_its_family_reads_captions(faces: TextFaces) -> None:
    read = faces.read("A Happy, happy wo-man with 2 raised_brows!")
    assert read.words == ("a", "happy", "happy", "with", "2")
    assert read.dropped == ("wo", "man", "raised_brows")
    assert read.tokens[0, :6].tolist() == [1, 2, 2, 4, 5, 0]
    assert read.tokens.shape == (1, WORDS)
    assert faces.read("happÿy wömän é").words == ("happy",)


def test_a_graph_that_does_not_state_its_words_is_refused() -> None:
    for stated in ({}, {VOCABULARY_KEY: "a b"}, {VOCABULARY_KEY: "a a a"}):
        with pytest.raises(ModelError, match="export it again"):
            Vocabulary.stated(stated, 4)
    assert Vocabulary.stated({VOCABULARY_KEY: "a b c"}, 4).words == ("a", "b", "c")


def test_the_same_seed_is_the_same_face_however_many_are_drawn(faces: TextFaces) -> None:
    read = faces.read(PROMPT)
    three = {face.number: face for face in faces.draw(read, count=3, seed=7)}
    (alone,) = faces.draw(read, count=1, seed=7)
    assert (alone.pixels == three[0].pixels).all()
    assert (three[1].pixels != three[0].pixels).any()
    (other,) = faces.draw(read, count=1, seed=8)
    assert (other.pixels != alone.pixels).any()


class Brightness:
    """Calls the brightest picture the nearest."""

    name = "brightness"

    def __call__(
        self, sentence: Sentence, code: np.ndarray, pictures: Sequence[np.ndarray]
    ) -> list[float]:
        return [float(picture.mean()) for picture in pictures]

    def close(self) -> None:
        pass


def test_the_nearest_face_comes_first(models: Path) -> None:
    catalog = Catalog.load(models)
    with TextFaces(
        catalog.open("text_encoder"), catalog.open("text_generator"), Brightness()
    ) as faces:
        drawn = faces.draw(faces.read(PROMPT), count=4, seed=1)
    found = [face.nearness for face in drawn]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 4
    assert {face.number for face in drawn} == {0, 1, 2, 3}


def test_the_pair_of_the_models_ranks(faces: TextFaces) -> None:
    assert faces.ranked_by == "text_image_encoder"
    drawn = faces.draw(faces.read(PROMPT), count=2, seed=1)
    assert all(face.nearness is not None and -1 <= face.nearness <= 1 for face in drawn)


def test_words_change_the_face(faces: TextFaces) -> None:
    one, other = (
        faces.draw(faces.read(text), seed=3)[0].pixels for text in ("happy woman", "raised brows")
    )
    assert (one != other).any()


def test_without_a_pair_nothing_is_ranked(tmp_path: Path) -> None:
    folder = write_text_models(tmp_path / "models", ranks=False)
    with TextFaces.open(Catalog.load(folder)) as faces:
        assert faces.ranked_by is None
        drawn = faces.draw(faces.read(PROMPT), count=2)
        assert [face.number for face in drawn] == [0, 1]
        assert drawn[0].nearness is None


def test_faces_for_others_are_256_pixels_of_bgr(models: Path) -> None:
    drawn = draw_faces(PROMPT, 2, 7, models=models)
    assert [(face.shape, face.dtype.name) for face in drawn] == [((256, 256, 3), "uint8")] * 2
    rgb = np.stack([np.full((4, 4), level) for level in (1.0, 0.0, -1.5)]).astype(np.float32)
    assert pixels_of(rgb)[0, 0].tolist() == [0, 128, 255]


def test_networks_that_are_missing_are_named() -> None:
    with pytest.raises(ModelError, match=r"lack the networks text_encoder, text_generator"):
        TextFaces.open(Catalog(()))


def test_an_encoder_of_ones_own_is_not_mixed_with_the_shipped_generator(tmp_path: Path) -> None:
    folder = write_text_models(tmp_path / "models", draws=False, ranks=False)
    with pytest.raises(ModelError, match="lack the networks text_generator; "):
        draw_faces(PROMPT, models=folder)


def test_the_shipped_networks_draw_and_rank() -> None:
    with TextFaces.open(Catalog.bundled()) as faces:
        assert faces.ranked_by == "text_image_encoder"
        one, other = (faces.draw(faces.read(text), seed=3)[0] for text in ("happy man", "sad man"))
    assert one.pixels.shape == (256, 256, 3)
    assert np.abs(one.pixels.astype(int) - other.pixels).mean() > 5


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (65, 0), (1, -1), (1, 2**31)])
def test_counts_and_seeds_are_bounded(count: int, seed: int, faces: TextFaces) -> None:
    with pytest.raises(UsageError):
        faces.draw(faces.read(PROMPT), count=count, seed=seed)


def test_attention_is_a_map_for_each_word_of_the_sentence(faces: TextFaces) -> None:
    read = faces.read(PROMPT)
    (face,) = faces.draw(read, with_attention=True)
    assert face.attention is not None
    assert face.attention.shape == (len(read.words), 128, 128)
    np.testing.assert_allclose(face.attention.sum(0), 1, atol=1e-4)
    sheet = attention_sheet(face, read.words)
    assert sheet.shape == (3 * 280, 3 * 256, 3), "six words and the face, three across"
    (plain,) = faces.draw(read)
    assert plain.attention is None


def test_heat_is_red_where_the_map_is_largest() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    values = np.zeros((16, 16), np.float32)
    values[2:6, 2:6] = 0.5
    found = heated(grey, values)
    assert found[16, 16, 2] > found[16, 16, 0]
    assert found[60, 60, 0] > found[60, 60, 2]
    assert (heated(grey, np.zeros((16, 16), np.float32)) == heated(grey, values)[60, 60]).all()


def test_a_grid_holds_every_picture() -> None:
    tiles = [np.full((2, 2, 3), level, np.uint8) for level in range(1, 6)]
    grid = grid_of(tiles)
    assert grid.shape == (4, 6, 3)
    assert grid[::2, ::2, 0].tolist() == [[1, 2, 3], [4, 5, 0]]


def test_a_cosine_of_nothing_is_zero() -> None:
    assert cosine(np.zeros(3), np.ones(3)) == 0.0
    assert cosine(np.array([3.0, 0.0]), np.array([2.0, 0.0])) == pytest.approx(1)
