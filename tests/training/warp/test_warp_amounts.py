"""Amounts that the guides move, and a last layer that is fitted to them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mien.export.models.warp import WarpNetwork  # noqa: E402
from mien.runtime.methods.warp.editor import AMOUNTS  # noqa: E402
from mien.runtime.target import EMOTIONS  # noqa: E402
from mien.training.data.crops import Crops  # noqa: E402
from mien.training.warp.amounts import (  # noqa: E402
    BOUNDS,
    ONE_SIDED,
    Search,
    mean_amounts,
    refit,
    search,
)
from mien.training.warp.guide import make_guides  # noqa: E402
from mien.training.warp.warp import MOST, Objective, unit_table  # noqa: E402
from tests.runtime.faces.shapes import mean_face  # noqa: E402


def some_crops(count: int = 24) -> Crops:
    rng = np.random.default_rng(0)
    return Crops(
        pixels=rng.integers(40, 220, (count, 64, 64), dtype=np.uint8),
        landmarks=(mean_face() + rng.normal(0, 0.004, (count, 106, 2))).astype(np.float32),
        emotions=np.zeros(count, np.int64),
        validation=np.zeros(count, bool),
        source=np.zeros(count, np.int64),
    )


def an_editor(crops: Crops) -> WarpNetwork:
    torch.manual_seed(1)
    units, most = unit_table()
    network = WarpNetwork(units, most, torch.from_numpy(crops.landmarks.mean(0)), width=8)
    torch.nn.init.normal_(network.move.weight, std=0.02)
    return network.eval()


def test_bounds_are_of_units_that_there_are_and_that_the_network_can_show() -> None:
    for emotion, bounds in BOUNDS.items():
        amount = float(AMOUNTS[EMOTIONS.index(emotion)])
        for unit, (low, high) in bounds.items():
            assert -MOST[unit] * amount < low < high < MOST[unit] * amount, (emotion, unit)


def test_the_guides_move_amounts_within_their_bounds(tmp_path) -> None:
    crops = some_crops()
    torch.save({"guides": make_guides().state_dict()}, tmp_path / "guides.pt")
    objective = Objective(tmp_path / "guides.pt", torch.device("cpu"))
    start = mean_amounts(an_editor(crops), crops, EMOTIONS.index("disgusted"))
    found = search("disgusted", start, objective, crops, Search(steps=2, batch=4))
    for place, unit in enumerate(MOST):
        left, right = found[2 * place : 2 * place + 2].tolist()
        if unit not in BOUNDS["disgusted"]:
            assert [left, right] == start[2 * place : 2 * place + 2].tolist()
            continue
        low, high = BOUNDS["disgusted"][unit]
        assert low <= right <= high
        share = ONE_SIDED["disgusted"][1] if unit == ONE_SIDED["disgusted"][0] else 1
        assert left == pytest.approx(share * right)


def test_a_fitted_editor_answers_by_the_change_and_leaves_other_emotions_alone() -> None:
    crops = some_crops()
    network = an_editor(crops)
    index, other = EMOTIONS.index("fearful"), EMOTIONS.index("happy")
    before = {i: mean_amounts(network, crops, i) for i in (index, other)}
    change = torch.zeros(len(EMOTIONS), len(network.most))
    change[index, 0] = 0.03
    refit(network, crops, change)
    moved = (mean_amounts(network, crops, index) - before[index]) / float(AMOUNTS[index])
    assert float(moved[0]) == pytest.approx(0.03, rel=0.25)
    assert float(moved[1:].abs().max()) < 0.003
    still = mean_amounts(network, crops, other) - before[other]
    assert float(still.abs().max()) < 0.003
