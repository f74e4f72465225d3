"""A face space is calibrated by the method whose networks are there."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from mien.calibration.representative import representative_inputs
from mien.engines import Catalog
from mien.engines.face_space import EMM, ENCODER, GENERATOR
from mien.runtime.video import read_frames
from tests.runtime.methods.latent.networks import LAYERS, SIDE, WIDTH, write_emm, write_space

SAMPLE = Path(__file__).parents[4] / "apps" / "sample" / "sample.mp4"


def test_every_network_is_shown_what_the_filter_shows_it(tmp_path: Path) -> None:
    catalog = Catalog.load(write_emm(write_space(tmp_path / "models")))
    shots = [list(islice(read_frames(SAMPLE), 3))]
    shapes = {ENCODER: ("image", (1, 1, SIDE, SIDE)), GENERATOR: ("codes", (2, LAYERS, WIDTH))}
    for network, (name, shape) in (*shapes.items(), (EMM, ("codes", (1, LAYERS, WIDTH)))):
        seen = representative_inputs(network, shots, catalog, 2)
        assert seen
        assert all(feeds[name].shape == shape for feeds in seen)
        assert any(feeds[name].any() for feeds in seen)
