"""What the editor's movements lack, searched for against small guides that know nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from mien.engines.catalog import BUNDLED_FOLDER
from mien.runtime.faces.action_units import OUTER_EYES, action_unit
from mien.runtime.target import EMOTIONS
from mien.training.warp.guide import make_guides
from mien.training.warp.units import MOST, UNITS, NeutralFaces, UnitAmounts, Verdict, told
from mien.training.warp.warp import Objective, editor_of
from tests.training.warp.test_warp_recipe import small_crops


def test_nothing_is_added_before_the_search_and_never_more_than_the_most() -> None:
    network = UnitAmounts()
    assert not network().any()
    row, column = EMOTIONS.index("fearful"), UNITS.index("5")
    with torch.no_grad():
        network.raw[row, column] = 10.0
    moves = network().detach()
    wanted = torch.from_numpy(action_unit("5") * OUTER_EYES * MOST).float()
    torch.testing.assert_close(moves[row], wanted)
    moves[row] = 0
    assert not moves.any()


def test_the_search_moves_the_amounts_of_what_is_asked_and_leaves_the_editor(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    torch.save({"guides": make_guides().state_dict()}, tmp_path / "guides.pt")
    objective = Objective(tmp_path / "guides.pt", torch.device("cpu"))
    editor = editor_of(BUNDLED_FOLDER)
    verdict, network = Verdict(editor, objective), UnitAmounts()
    faces, landmarks, _ = NeutralFaces(small_crops(), 0)()
    index = EMOTIONS.index("angry")
    target = torch.zeros(len(faces), len(EMOTIONS))
    target[:, index] = 1
    terms = verdict(network, (faces, landmarks, target))
    assert terms.keys() == {"guide", "fold", "cost"}
    torch.stack(list(terms.values())).sum().backward()
    assert network.raw.grad is not None
    moved = network.raw.grad.abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == [index]
    assert all(parameter.grad is None for parameter in editor.parameters())


def test_faces_are_neutral_and_of_training_people_and_targets_have_guides() -> None:
    crops = small_crops()
    neutral = np.flatnonzero(crops.emotions == 0)
    validation = np.zeros(len(crops.emotions), bool)
    validation[neutral[::2]] = True
    draw = NeutralFaces(dataclasses.replace(crops, validation=validation), 0)
    np.testing.assert_array_equal(draw.crops.pixels, crops.pixels[neutral[1::2]])
    asked = {int(target) for _ in range(4) for target in draw()[2].argmax(1)}
    assert asked <= set(range(1, 7))


def test_amounts_are_told_from_the_largest_on() -> None:
    amounts = torch.zeros(len(EMOTIONS), len(UNITS))
    amounts[4, UNITS.index("5")] = 0.05
    amounts[4, UNITS.index("1")] = -0.07
    amounts[4, UNITS.index("20")] = 0.004
    found = told(amounts)
    assert found["fearful"] == {"1": -0.07, "5": 0.05}
    assert list(found["fearful"]) == ["1", "5"]
    assert found["happy"] == {}
