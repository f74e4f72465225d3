from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from mien.engines import Catalog, Engine, FakeEngine, ModelError, Network, OnnxRuntimeEngine
from mien.engines import TensorSpec as Spec
from mien.engines.networks import (
    FACE_PARSER,
    GENERATORS,
    IMAGENET_MEAN,
    SHIPPED_CLASSES,
    STARGAN_PARTS,
    cyclegan_network,
    generator_facts,
    generator_name,
    parser_facts,
    parser_network,
    stargan_network,
)
from tests.engines.tiny import TINY, write_tiny
from tests.runtime.methods.gan.networks import write_network, write_style_models


def never(_: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    raise AssertionError


def fake(network: Network, **facts: str) -> Engine:
    return FakeEngine(network, never, {f"mien.{key}": text for key, text in facts.items()})


def test_shipped_declarations_are_named_by_gan_and_mode() -> None:
    names = {network.name for network in GENERATORS}
    assert names == {
        generator_name(gan, mode)
        for gan in ("stargan", "cyclegan")
        for mode in ("image", "face", "parts")
    }
    assert STARGAN_PARTS.inputs[0].shape == (4, 3, 64, 64)
    assert FACE_PARSER.outputs[0].shape[1] == len(SHIPPED_CLASSES)


def test_a_declaration_comes_back_from_its_metadata() -> None:
    for network in (*GENERATORS, FACE_PARSER, TINY):
        assert Network.from_metadata(network.metadata()) == network


@pytest.mark.parametrize(
    "stated", ["", "[]", '{"name": "x"}', '{"name": "x", "inputs": [{}], "outputs": []}']
)
def test_metadata_that_declares_nothing_is_an_error(stated: str) -> None:
    with pytest.raises(ModelError, match=r"does not state which network it is; .*mien export"):
        Network.from_metadata({"mien.network": stated})


def test_an_engine_opened_by_name_reads_the_graphs_own_sizes(tmp_path: Path) -> None:
    network = stargan_network("stargan_face", labels=5, batch=2, size=128)
    nodes = [
        helper.make_node("ReduceSum", ["label"], ["all"], keepdims=0),
        helper.make_node("Add", ["image", "all"], ["edited"]),
    ]
    facts = {"labels": "a,b,c,d,e", "colour": "rgb"}
    write_network(tmp_path, network, nodes, {}, facts)
    with Catalog.load(tmp_path).open("stargan_face") as engine:
        assert engine.network == network
        found = generator_facts(engine)
        assert engine.infer(
            {
                "image": np.zeros((2, 3, 128, 128), np.float32),
                "label": np.full((2, 5), 0.1, np.float32),
            }
        )["edited"].shape == (2, 3, 128, 128)
    assert (found.size, found.batch, found.labels) == (128, 2, tuple("abcde"))
    assert found.is_conditional
    assert found.colour == "rgb"


def test_a_graph_of_another_name_is_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.onnx")
    with pytest.raises(ModelError, match="states that it is the network 'tiny', not 'stargan_im"):
        OnnxRuntimeEngine(tmp_path / "tiny.onnx", "stargan_image")


def test_a_graph_that_states_nothing_is_refused_by_name(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.onnx", metadata={})
    with pytest.raises(ModelError, match=r"tiny\.onnx: the graph does not state"):
        OnnxRuntimeEngine(tmp_path / "tiny.onnx", "tiny")


def test_a_graph_that_is_not_what_it_states_is_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.onnx", side=5)
    with pytest.raises(ModelError, match="but the network 'tiny' has"):
        OnnxRuntimeEngine(tmp_path / "tiny.onnx", "tiny")


def test_the_metadata_of_a_graph_is_kept(tmp_path: Path) -> None:
    folder = write_style_models(tmp_path / "models")
    with Catalog.load(folder).open("face_parser") as engine:
        assert engine.metadata["mien.colour"] == "luma"
        facts = parser_facts(engine)
    assert facts.classes == SHIPPED_CLASSES
    assert facts.colour == "luma"
    assert facts.mean == IMAGENET_MEAN


def test_a_generator_without_a_label_states_its_direction() -> None:
    facts = generator_facts(fake(cyclegan_network("cyclegan_face"), labels="neutral->happy"))
    assert not facts.is_conditional
    assert facts.labels == ("neutral->happy",)
    assert facts.colour == "rgb"  # what public checkpoints are, where nothing is stated


def test_a_graph_may_state_how_much_of_its_change_to_show() -> None:
    network = cyclegan_network("cyclegan_face")
    assert generator_facts(fake(network, labels="a->b")).amount == 1
    assert generator_facts(fake(network, labels="a->b", amount="1.5")).amount == 1.5


def test_a_parsers_own_normalisation_is_read() -> None:
    engine = fake(parser_network(classes=2), classes="a, b", mean="0.5,0.4,0.3", std="1,2,3")
    facts = parser_facts(engine)
    assert facts.classes == ("a", "b")
    assert facts.mean == (0.5, 0.4, 0.3)
    assert facts.std == (1.0, 2.0, 3.0)


IMAGE = Spec("image", (1, 3, 64, 64))
EDITED = Spec("edited", (1, 3, 64, 64))
PARSER = parser_network(classes=2)
WRONG: dict[str, tuple[Callable[[Engine], object], Network, dict[str, str], str]] = {
    "label names": (
        generator_facts,
        stargan_network("g", labels=3),
        {"labels": "neutral,happy"},
        "received 2 label names, expected 3; .*--labels",
    ),
    "no direction": (generator_facts, cyclegan_network("g"), {}, "received 0 label names"),
    "another output": (
        generator_facts,
        Network("g", (IMAGE,), (Spec("edited", (1, 3, 32, 32)),)),
        {"labels": "a->b"},
        r"expected image \(B, 3, S, S\)",
    ),
    "another input": (
        generator_facts,
        Network("g", (Spec("picture", (1, 3, 64, 64)),), (EDITED,)),
        {"labels": "a->b"},
        "'picture'",
    ),
    "grey input": (
        generator_facts,
        Network("g", (Spec("image", (1, 1, 64, 64)),), (Spec("edited", (1, 1, 64, 64)),)),
        {"labels": "a->b"},
        r"expected image \(B, 3, S, S\)",
    ),
    "batch of the label": (
        generator_facts,
        Network("g", (IMAGE, Spec("label", (2, 3))), (EDITED,)),
        {"labels": "a,b,c"},
        "received inputs",
    ),
    "colour": (
        generator_facts,
        cyclegan_network("g"),
        {"labels": "a->b", "colour": "bgr"},
        "colour is stated as 'bgr', expected luma or rgb",
    ),
    "no number": (
        generator_facts,
        cyclegan_network("g"),
        {"labels": "a->b", "amount": "much"},
        "amount is stated as 'much', expected a number up to 4",
    ),
    "nothing": (
        generator_facts,
        cyclegan_network("g"),
        {"labels": "a->b", "amount": "0"},
        "amount is stated as '0'",
    ),
    "classes": (parser_facts, PARSER, {"classes": "skin"}, "received 1 class names, expected 2"),
    "mean": (
        parser_facts,
        PARSER,
        {"classes": "a,b", "mean": "0.5,half,1"},
        "its mean is stated as '0.5,half,1', expected three numbers",
    ),
    "two numbers": (
        parser_facts,
        PARSER,
        {"classes": "a,b", "std": "0.5,1"},
        "its std is stated as '0.5,1', expected three numbers",
    ),
    "zero deviation": (
        parser_facts,
        PARSER,
        {"classes": "a,b", "std": "0.5,0,1"},
        r"expected three numbers in 0\.001\.\.1000",
    ),
    "infinite mean": (parser_facts, PARSER, {"classes": "a,b", "mean": "0,1e999,0"}, "its mean is"),
    "no mean": (parser_facts, PARSER, {"classes": "a,b", "mean": "0,nan,0"}, "its mean is stated"),
    "many classes": (
        parser_facts,
        parser_network(classes=257),
        {"classes": ",".join(map(str, range(257)))},
        "with N up to 256",
    ),
    "double precision": (
        generator_facts,
        Network("g", (IMAGE,), (Spec("edited", IMAGE.shape, "float64"),)),
        {"labels": "a->b"},
        "in float32",
    ),
    "no parser": (parser_facts, TINY, {}, r"expected image \(1, 3, S, S\) and logits"),
}


@pytest.mark.parametrize(("read", "network", "facts", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_one_line(
    read: Callable[[Engine], object], network: Network, facts: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as error:
        read(fake(network, **facts))
    assert "\n" not in str(error.value)
