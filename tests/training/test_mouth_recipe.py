"""What the mouth network is taught: its crops, its batches, one step of its objective."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from mien.export.mouth import MouthNetwork
from mien.runtime.mouth import SIZE_HW, lips_gap
from mien.training.mouth import Mouths, Objective, Sampler, cut_mouth, gap
from tests.runtime.faces import mean_face


def open_face(size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A grey picture with a black mouth, and its landmarks in pixels."""
    marks = mean_face()
    marks[[101, 102, 103], 1] += 0.06
    points = marks * size - 0.5
    picture = np.full((size, size), 150, np.uint8)
    cv2.fillPoly(picture, [np.round(points[96:104]).astype(np.int32)], 0)
    return picture, points.astype(np.float32)


def mouths(count: int = 12) -> Mouths:
    mouth, hole = cut_mouth(*open_face())
    return Mouths(
        np.repeat(mouth[None], count, 0),
        np.repeat(hole[None], count, 0),
        np.arange(count) % 8 - (np.arange(count) == 3) * 4,
        np.full(count, 1 / count),
        np.zeros(count, bool),
    )


def test_the_hole_covers_the_inside_of_the_mouth_and_nothing_else() -> None:
    mouth, hole = cut_mouth(*open_face())
    assert mouth.shape == hole.shape == SIZE_HW
    assert mouth[hole > 0.99].mean() < 0.1
    outside = cv2.dilate(hole, np.ones((5, 5))) < 0.01
    assert mouth[outside].min() > 0.5


def test_the_gap_is_in_crop_units_whatever_the_picture_and_its_roll() -> None:
    _, points = open_face()
    angle = 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = lips_gap((points + 0.5) / 200)
    assert abs(gap(points) - expected) < 0.02
    assert abs(gap(points * 3) - gap(points)) < 1e-4
    assert abs(gap((points @ turn.T).astype(np.float32)) - gap(points)) < 0.02


def test_batches_hold_what_the_network_takes() -> None:
    batch = Sampler(mouths(), 0)()
    assert batch.mouth.shape == batch.hole.shape == (24, 1, *SIZE_HW)
    assert float(batch.mouth.min()) >= 0
    assert float(batch.mouth.max()) <= 1
    assert float(batch.hole.mean()) > 0.02
    assert ((batch.target > 0).sum(1) <= 1).all()


def test_a_few_steps_fill_a_black_mouth_darker() -> None:
    torch.manual_seed(0)
    network, objective = MouthNetwork(width=6), Objective(torch.device("cpu"))
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    sampler = Sampler(mouths(), 0)
    first = last = 0.0
    for step in range(12):
        terms = objective(network, sampler())
        last = float(terms["same"].detach())
        first = first if step else last
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    assert last < 0.8 * first
