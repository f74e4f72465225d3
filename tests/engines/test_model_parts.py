"""Weights that lie in files beside a model, whose hashes the model states."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mien.engines import ModelError, Network, OnnxRuntimeEngine, TensorSpec
from mien.engines.graph.file import PART_KEY, part_metadata, read_model, read_model_file
from mien.engines.tensorrt.engine import PlanModel

NETWORK = Network("parted", (TensorSpec("x", (2, 8)),), (TensorSpec("y", (2, 6)),))
WEIGHT = np.random.default_rng(0).standard_normal((8, 6), np.float32)
BIAS = np.random.default_rng(1).standard_normal(6).astype(np.float32)
PART = "parted-weights.data"


def in_part(values: np.ndarray, name: str, offset: int) -> TensorProto:
    tensor = numpy_helper.from_array(values, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", PART), ("offset", offset), ("length", values.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def parted(folder: Path) -> tuple[Path, ModelProto]:
    """A product and a sum, their weights in a part, written to a folder."""
    (folder / PART).write_bytes(WEIGHT.tobytes() + BIAS.tobytes())
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])],
        "parted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 6])],
        [in_part(WEIGHT, "w", 0), in_part(BIAS, "b", WEIGHT.nbytes)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    stated = NETWORK.metadata() | part_metadata({PART: folder / PART})
    helper.set_model_props(model, stated)
    return written(model, folder), model


def written(model: ModelProto, folder: Path) -> Path:
    (folder / "parted.onnx").write_bytes(model.SerializeToString())
    return folder / "parted.onnx"


def test_a_model_with_a_part_runs(tmp_path: Path) -> None:
    path, _ = parted(tmp_path)
    x = np.ones((2, 8), np.float32)
    with OnnxRuntimeEngine(path, NETWORK) as engine:
        np.testing.assert_allclose(engine.infer({"x": x})["y"], x @ WEIGHT + BIAS, rtol=1e-5)


def test_a_model_is_read_as_one_with_its_part_in_it(tmp_path: Path) -> None:
    path, _ = parted(tmp_path)
    whole = onnx.load_from_string(read_model(path))
    onnx.checker.check_model(whole, full_check=True)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in whole.graph.initializer}
    assert np.array_equal(found["w"], WEIGHT)
    assert np.array_equal(found["b"], BIAS)
    assert not any(tensor.external_data for tensor in whole.graph.initializer)
    assert read_model(path) == PlanModel.read(path, NETWORK).model
    assert list(read_model_file(path).parts) == [PART]


def changed(folder: Path) -> None:
    content = bytearray((folder / PART).read_bytes())
    content[7] ^= 1
    (folder / PART).write_bytes(content)


def linked(folder: Path) -> None:
    (folder / PART).rename(folder / "elsewhere")
    (folder / PART).symlink_to(folder / "elsewhere")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (changed, "is not the one that"),
        (lambda folder: (folder / PART).unlink(), "cannot read the model"),
        (lambda folder: (folder / PART).write_bytes(b"short"), "it has 5 bytes"),
        (linked, "is a link"),
    ],
    ids=["changed", "missing", "cut", "link"],
)
def test_a_part_that_is_not_the_stated_one_is_refused(harm, told: str, tmp_path: Path) -> None:
    path, _ = parted(tmp_path)
    harm(tmp_path)
    for reading in (read_model, read_model_file):
        with pytest.raises(ModelError, match=told) as caught:
            reading(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("../secret", "0" * 64 + " 4", "names a part '../secret'"),
        ("/etc/passwd", "0" * 64 + " 4", "names a part '/etc/passwd'"),
        ("parted.onnx", "0" * 64 + " 4", "names a part 'parted.onnx'"),
        ("..", "0" * 64 + " 4", "names a part"),
        ("a.data", "abc 4", "names a part 'a.data'"),
        ("a.data", "0" * 64 + f" {1 << 40}", "of together 16 GiB"),
    ],
)
def test_a_part_that_is_no_file_beside_the_model_is_refused(
    name: str, text: str, told: str, tmp_path: Path
) -> None:
    path, model = parted(tmp_path)
    model.metadata_props.add(key=f"{PART_KEY}{name}", value=text)
    written(model, tmp_path)
    with pytest.raises(ModelError, match=re.escape(told)):
        read_model(path)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("location", "/etc/passwd", "of which it states no hash"),
        ("location", "", "of which it states no hash"),
        ("offset", "8000", "beyond the end"),
        ("length", "9999999", "beyond the end"),
        ("length", "4", "is damaged: a tensor of shape"),
        ("offset", "-4", "no number"),
        ("offset", "9" * 40, "no number"),
    ],
)
def test_weights_are_taken_from_the_stated_part_only(
    key: str, value: str, told: str, tmp_path: Path
) -> None:
    path, model = parted(tmp_path)
    next(e for e in model.graph.initializer[0].external_data if e.key == key).value = value
    written(model, tmp_path)
    with pytest.raises(ModelError, match=told):
        read_model(path)


def test_weights_in_two_places_are_refused(tmp_path: Path) -> None:
    path, model = parted(tmp_path)
    model.graph.initializer[0].raw_data = bytes(WEIGHT.nbytes)
    written(model, tmp_path)
    with pytest.raises(ModelError, match="two places"):
        read_model(path)


def test_a_part_without_a_stated_hash_is_refused(tmp_path: Path) -> None:
    path, model = parted(tmp_path)
    del model.metadata_props[:]
    written(model, tmp_path)
    with pytest.raises(ModelError, match="whose hashes it does not state"):
        OnnxRuntimeEngine(path, NETWORK)


def test_the_work_of_sequences_follows_from_their_sizes(tmp_path: Path) -> None:
    """An Einsum over indices that meet in no output may take years from small tensors."""
    sides = [4096] * 2
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    nodes = [
        helper.make_node("Einsum", ["x", "x", "x"], ["s"], equation="ab,cd,ef->"),
        helper.make_node("Unsqueeze", ["s", "axes"], ["y"]),
    ]
    axes = numpy_helper.from_array(np.array([0]), "axes")
    graph = helper.make_graph(nodes, "slow", inputs, [output], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    network = Network("slow", (TensorSpec("x", (4096, 4096)),), (TensorSpec("y", (1,)),))
    helper.set_model_props(model, network.metadata())
    path = written(model, tmp_path)
    with pytest.raises(ModelError, match="one run of the model"):
        OnnxRuntimeEngine(path, network)
