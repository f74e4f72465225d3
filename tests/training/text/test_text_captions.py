"""The grammar of captions, the directions of facts, and what the pair and the finisher compute."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mien.engines.text_faces import OWN_WORDS, WORDS
from mien.export.models.damsm import SmallImageEncoder, code_scores, matching_loss, word_scores
from mien.runtime.target import EMOTIONS
from mien.runtime.text.sentence import Vocabulary
from mien.runtime.words import words_of
from mien.training.latent.captions import vocabulary as pair_vocabulary
from mien.training.text.captions import (
    AGES,
    INDEX,
    SHORT,
    SUBJECTS,
    TEXT_FACTS,
    caption_of,
    chosen_facts,
    tokens_of,
    vocabulary,
)
from mien.training.text.damsm import r_precision
from mien.training.text.finish import Finisher, chroma_of, luma_of, rgb_of
from mien.training.text.further import OTHERS, calmed, is_whole, known_of, sharpened
from mien.training.text.teacher import EXCLUSIVE, NOISE, Draws, FactSpace, wanted_of


def facts_of(*names: str) -> tuple[int, ...]:
    return tuple(INDEX[name] for name in names)


@pytest.fixture(scope="module")
def space() -> FactSpace:
    """Fact i is the sign of component i, for all facts but the last."""
    random = torch.Generator().manual_seed(0)
    amounts = torch.randn(6000, NOISE, generator=random)
    holds = (amounts[:, : len(TEXT_FACTS)] > 0.5).float().numpy()
    emotions = amounts[:, : len(EMOTIONS)].argmax(1)
    holds[:, : len(EMOTIONS)] = F.one_hot(emotions, len(EMOTIONS)).numpy()
    holds[:, -1] = 0
    made = FactSpace()
    made.fit(amounts, holds)
    return made


def test_every_caption_is_of_known_words_and_fits_the_encoder() -> None:
    random, known = np.random.default_rng(0), set(vocabulary())
    usable = np.ones(len(TEXT_FACTS), bool)
    for _ in range(400):
        holds = (random.random(len(TEXT_FACTS)) < 0.4).astype(np.float32)
        caption = caption_of(chosen_facts(holds, random, usable), random)
        words = words_of(caption.text)
        assert 1 <= len(words) <= WORDS
        assert set(words) <= known, caption.text
        assert all(holds[fact] for fact in caption.facts)
        assert not any(a == "a" and b[0] in "aeiou" for a, b in itertools.pairwise(words))


def test_subject_age_emotion_and_what_one_has_are_all_said() -> None:
    random = np.random.default_rng(3)
    for _ in range(40):
        facts = facts_of("woman", "young", "happy", "glasses", "light_left")
        text = caption_of(facts, random).text
        assert {"woman", "young", "left"} <= set(words_of(text))
        assert {"glasses", "spectacles"} & set(words_of(text))


def test_two_emotions_are_named_together() -> None:
    texts = [caption_of(facts_of("happy", "surprised"), np.random.default_rng(s)).text
             for s in range(20)]  # fmt: skip
    assert any("happy and surprised" in text for text in texts)
    assert all(" and " in text for text in texts)


def test_captions_never_state_what_is_not_usable() -> None:
    random = np.random.default_rng(0)
    usable = np.ones(len(TEXT_FACTS), bool)
    usable[[INDEX["glasses"], INDEX["sad"]]] = False
    for _ in range(100):
        stated = chosen_facts(np.ones(len(TEXT_FACTS), np.float32), random, usable)
        assert not set(stated) & {INDEX["glasses"], INDEX["sad"]}


def test_the_grammar_says_what_the_small_pair_says_too() -> None:
    assert set(pair_vocabulary()) <= set(vocabulary())
    assert set(SHORT) | set(SUBJECTS) | set(AGES) | set(EMOTIONS) == set(TEXT_FACTS)
    assert len(vocabulary()) + 1 == OWN_WORDS, "engines/text_faces.py declares it"


def test_the_recipe_and_the_runtime_read_captions_alike() -> None:
    known, random = Vocabulary(vocabulary()), np.random.default_rng(1)
    usable = np.ones(len(TEXT_FACTS), bool)
    for _ in range(50):
        holds = (random.random(len(TEXT_FACTS)) < 0.5).astype(np.float32)
        text = caption_of(chosen_facts(holds, random, usable), random).text
        if set(words_of(text)) - {"a", "the", "face", "person", "of"}:
            assert (known.read(text, WORDS).tokens == tokens_of([text])).all()


def test_what_a_caption_states_holds_and_z_decides_the_rest(space: FactSpace) -> None:
    z = torch.randn(64, NOISE, generator=torch.Generator().manual_seed(1))
    facts = facts_of("happy", "glasses")
    meant = space.meant(z, [facts] * 64)
    held = space.held(meant)
    assert held[:, list(facts)].min() > 0.9
    before = space.held(space.meant(z, [()] * 64))
    assert before[:, list(facts)].mean() < 0.6
    rest = list(range(len(TEXT_FACTS), NOISE))
    assert (meant[:, rest] - 0.75 * z[:, rest]).abs().mean() < 0.1
    assert (space.meant(z, [facts] * 64) == meant).all()


def test_a_fact_that_hardly_any_face_has_is_never_stated(space: FactSpace) -> None:
    assert not space.usable[-1]
    assert space.usable[:-1].all()
    draws = Draws(space, 8, 0)
    for _ in range(30):
        for caption in draws().captions:
            assert len(TEXT_FACTS) - 1 not in caption.facts
            names = {TEXT_FACTS[i] for i in caption.facts}
            assert all(len(names & set(group)) <= 1 for group in EXCLUSIVE)


def test_a_face_fits_its_own_caption_and_those_that_hold_for_it(space: FactSpace) -> None:
    random = np.random.default_rng(0)
    named = [("happy", "glasses")] * 20 + [("happy",)] * 20 + [("sad",)] * 20
    captions = [caption_of(facts_of(*names), random) for names in named]
    z = torch.randn(60, NOISE, generator=torch.Generator().manual_seed(2))
    fits = wanted_of(space, captions, z).fits
    assert (fits.diagonal() == 1).all()
    assert fits[:20, 20:40].min() > 0.9, "a happy face with glasses is a happy face"
    assert fits[:20, 40:].mean() < 0.5


def test_words_that_are_missing_match_nothing() -> None:
    words, regions = torch.randn(3, 8, 5), torch.randn(4, 8, 6, 6)
    present = torch.tensor([[1.0, 1, 1, 0, 0]] * 3)
    whole = word_scores(words, present, regions)
    other = words.clone()
    other[:, :, 3:] = 100
    torch.testing.assert_close(word_scores(other, present, regions), whole)
    alone = word_scores(words[:, :, :3], present[:, :3], regions)
    torch.testing.assert_close(alone, whole)


def test_the_loss_is_least_where_pictures_and_captions_belong_together() -> None:
    codes = F.normalize(torch.randn(6, 16), dim=1)
    right = matching_loss(code_scores(codes, codes), torch.eye(6))
    wrong = matching_loss(code_scores(codes, codes.roll(1, 0)), torch.eye(6))
    assert right < wrong
    found = r_precision(codes.numpy(), codes.numpy(), np.eye(6))
    assert found == (1.0, 0.0)


def test_the_image_encoder_sees_luma_of_any_brightness_and_size() -> None:
    encoder = SmallImageEncoder(16, channels=4).eval()
    picture = torch.rand(2, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        code, regions = encoder(picture)
        darker, _ = encoder(picture - 0.4)
        grey, _ = encoder(luma_of(picture).expand(-1, 3, -1, -1))
        small, _ = encoder(F.avg_pool2d(picture, 2))
    assert regions.shape == (2, 16, 8, 8)
    for other in (darker, grey, small):
        torch.testing.assert_close(other, code, atol=1e-3, rtol=1e-3)


def test_colours_are_luma_and_chroma() -> None:
    rgb = torch.rand(2, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(rgb_of(luma_of(rgb), chroma_of(rgb)), rgb, atol=1e-5, rtol=1e-5)
    assert chroma_of(luma_of(rgb).expand(-1, 3, -1, -1)).abs().max() < 1e-5


@pytest.mark.parametrize("size", [64, 128])
def test_an_untrained_finisher_enlarges_what_it_is_given(size: int) -> None:
    torch.manual_seed(0)
    smooth = F.interpolate(torch.rand(1, 1, 4, 4), size=size, mode="bicubic")
    with torch.no_grad():
        made = Finisher()(smooth)
    assert made.shape == (1, 3, 256, 256)
    wanted = F.interpolate(smooth, size=256, mode="bicubic")
    assert (luma_of(made) - wanted).abs().mean() < 0.03


def test_what_a_caption_leaves_open_is_as_common_as_ever_and_opposites_do_not_hold() -> None:
    base = np.full(len(TEXT_FACTS), 0.2, np.float32)
    known = known_of((INDEX["happy"], INDEX["woman"]), base)
    assert (known[INDEX["happy"]], known[INDEX["woman"]]) == (1, 1)
    assert (known[INDEX["sad"]], known[INDEX["man"]]) == (0, 0)
    assert known[INDEX["glasses"]] == np.float32(0.2)


def test_a_picture_s_own_caption_counts_before_those_that_fit_as_well() -> None:
    targets = sharpened(np.float32([[1, 1], [0, 0.5]]))
    np.testing.assert_allclose(targets.numpy(), [[1, OTHERS], [0, 1]], rtol=1e-6)


def test_a_crop_that_its_last_line_extends_is_not_whole() -> None:
    crops = np.random.default_rng(0).integers(0, 255, (2, 64, 64), np.uint8)
    crops[1, 50:] = crops[1, 50]
    assert is_whole(crops).tolist() == [True, False]


def test_blue_is_calmed_and_skin_is_not() -> None:
    blue, skin = torch.tensor([-0.6, -0.2, 0.8]), torch.tensor([0.7, 0.3, 0.1])
    pictures = torch.stack([blue, skin])[:, :, None, None]
    found = calmed(pictures)[:, :, 0, 0]
    assert (found[0].max() - found[0].min()) < 0.5 * (blue.max() - blue.min())
    torch.testing.assert_close(found[1], skin, atol=1e-4, rtol=1e-4)
