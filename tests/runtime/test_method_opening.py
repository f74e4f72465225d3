"""What a method has opened is closed again where the rest of it cannot be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from mien.engines import Catalog, Engine, EngineError, ModelError, Network
from mien.engines.networks import cyclegan_network
from mien.runtime import Filter
from mien.runtime.methods import method_spec
from tests.runtime.methods.gan.networks import write_network, write_style_models


class Watch:
    """Remembers every engine that a catalog opens; one network cannot be opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, missing: str = "") -> None:
        self.opened: list[Engine] = []
        ordinary = Catalog.open

        def watched(catalog: Catalog, network: Network | str, **settings: object) -> Engine:
            name = network if isinstance(network, str) else network.name
            if name == missing:
                raise ModelError(f"the file of {name} is damaged")
            self.opened.append(ordinary(catalog, network, **settings))  # type: ignore[arg-type]
            return self.opened[-1]

        monkeypatch.setattr(Catalog, "open", watched)

    def still_open(self) -> list[str]:
        return [engine.network.name for engine in self.opened if not is_closed(engine)]


def is_closed(engine: Engine) -> bool:
    feeds = {
        spec.name: np.zeros([1 if isinstance(side, str) else side for side in spec.shape], "f4")
        for spec in engine.network.inputs
    }
    try:
        engine.infer(feeds)
    except EngineError as error:
        return "close" in str(error)
    return False


@pytest.fixture
def style_models(tmp_path: Path) -> Path:
    return write_style_models(tmp_path / "style")


@pytest.mark.parametrize(
    ("method", "missing", "before"),
    [
        ("warp", "occlusion", {"warp"}),
        ("parts", "stargan_parts", {"face_parser"}),
        ("face", "stargan_face", {"face_parser"}),
    ],
)
def test_a_network_that_cannot_be_opened_leaves_no_other_open(
    method: str,
    missing: str,
    before: set[str],
    style_models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Watch(monkeypatch, missing)
    with pytest.raises(ModelError, match=f"{missing} is damaged"):
        method_spec(method).open(Catalog.load(style_models), "cpu", {})
    assert {engine.network.name for engine in watch.opened} == before
    assert watch.still_open() == []


def test_a_generator_that_states_nonsense_is_closed_again(
    style_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"labels": "everywhere and back", "colour": "luma"}
    identity = [helper.make_node("Identity", ["image"], ["edited"])]
    write_network(style_models, cyclegan_network("cyclegan_image"), identity, {}, facts)
    watch = Watch(monkeypatch)
    with pytest.raises(ModelError, match="expected a pair"):
        method_spec("image").open(Catalog.load(style_models), "cpu", {"gan": "cyclegan"})
    assert [engine.network.name for engine in watch.opened] == ["cyclegan_image"]
    assert watch.still_open() == []


@pytest.mark.parametrize("method", ["warp", "face"])
def test_a_filter_closes_all_that_it_opened(
    method: str, style_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    Filter("happy", method=method, models=style_models).close()
    assert len(watch.opened) >= 4
    assert watch.still_open() == []
