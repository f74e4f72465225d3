"""Models from anywhere: what is refused before ONNX Runtime or TensorRT sees a byte."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mien.engines import WARP, Catalog, ModelError, OnnxRuntimeEngine
from mien.engines.model_file import read_model
from mien.engines.onnx_guard import MAX_BYTES, MAX_FIELDS, MAX_NODES, check_graph
from mien.engines.plan_engine import PlanModel
from tests.engines.tiny import TINY, write_tiny

NAME = Path("tiny.onnx")


def tiny(folder: Path) -> ModelProto:
    write_tiny(folder / NAME)
    return onnx.load(str(folder / NAME))


def complaint(model: bytes) -> str:
    try:
        check_graph(model, NAME)
    except ModelError as error:
        return str(error)
    return ""


def outside() -> TensorProto:
    """Weights that lie in a file which nobody has hashed."""
    weights = numpy_helper.from_array(np.zeros(400, np.float32), "w")
    weights.data_location = TensorProto.EXTERNAL
    weights.ClearField("raw_data")
    weights.external_data.add(key="location", value="/etc/passwd")
    return weights


def as_initializer(model: ModelProto) -> None:
    model.graph.initializer.append(outside())


def as_constant(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["w"], value=outside()))


def as_one_of_several(model: ModelProto) -> None:
    node = model.graph.node.add(op_type="Constant", output=["w"])
    node.attribute.add(name="values", type=onnx.AttributeProto.TENSORS).tensors.append(outside())


def as_sparse_initializer(model: ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(outside())


def within_a_branch(model: ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [outside()])
    middle = helper.make_graph([helper.make_node("If", ["c"], [], then_branch=inner)], "m", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["w"], then_branch=middle))


def within_a_function(model: ModelProto) -> None:
    constant = helper.make_node("Constant", [], ["w"], value=outside())
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "F", [], ["w"], [constant], opset))


def within_a_function_s_default(model: ModelProto) -> None:
    function = model.functions.add(domain="own", name="F")
    function.attribute_proto.add(name="w", type=onnx.AttributeProto.TENSOR).t.CopyFrom(outside())


def within_training(model: ModelProto) -> None:
    model.training_info.add().initialization.initializer.append(outside())


@pytest.mark.parametrize(
    "put",
    [
        as_initializer,
        as_constant,
        as_one_of_several,
        as_sparse_initializer,
        within_a_branch,
        within_a_function,
        within_a_function_s_default,
        within_training,
    ],
)
def test_weights_in_other_files_are_refused_wherever_they_hang(
    put: Callable[[ModelProto], None], tmp_path: Path
) -> None:
    model = tiny(tmp_path)
    assert complaint(model.SerializeToString()) == ""
    put(model)
    assert "tiny.onnx keeps weights in other files" in complaint(model.SerializeToString())


def test_weights_in_other_files_reach_no_backend(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    as_constant(model)
    (tmp_path / NAME).write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="keeps weights in other files"):
        OnnxRuntimeEngine(tmp_path / NAME, TINY)
    with pytest.raises(ModelError, match="keeps weights in other files"):
        PlanModel.read(tmp_path / NAME, TINY)


def test_field_that_only_protobuf_would_read_hides_nothing(tmp_path: Path) -> None:
    """protobuf takes the lower 32 bits of a tag: this one would be the graph, field 7."""
    graph = tiny(tmp_path).graph.SerializeToString()
    tag = bytes([0x3A | 0x80, 0x80, 0x80, 0x80, 0x10])
    assert len(graph) < 1 << 14
    hidden = tag + bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7]) + graph
    assert "is no ONNX file: a field has the number" in complaint(hidden)


def test_million_nodes_are_refused_while_they_are_counted(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    one = helper.make_node("Identity", ["x"], ["y"])
    model.graph.node.extend([one] * (MAX_NODES - len(model.graph.node)))
    assert complaint(model.SerializeToString()) == ""
    model.graph.node.append(one)
    assert f"more than {MAX_NODES:,} nodes" in complaint(model.SerializeToString())


def test_million_parts_are_refused_while_they_are_counted() -> None:
    assert "no network of mien has" in complaint(b"\x08\x01" * (MAX_FIELDS + 1))


def test_graphs_in_graphs_a_thousandfold_are_walked_without_recursion() -> None:
    message = b""
    for _ in range(1_000):
        for number in (6, 5, 1):  # the graph of an attribute of a node of a graph
            size = len(message)
            sizes = [size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]
            message = bytes([number << 3 | 2, *sizes]) + message
    size = len(message)
    sizes = [size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]
    assert complaint(bytes([0x3A, *sizes]) + message) == ""


def test_two_gigabytes_that_are_only_announced_are_refused_at_once() -> None:
    assert "it ends within a field" in complaint(b"\x3a\xff\xff\xff\xff\x07")


def test_two_gigabytes_of_zeros_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "zeros.onnx"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(ModelError, match=r"zeros\.onnx has 1907 MiB; mien reads up to 512"):
        read_model(path)
    assert MAX_BYTES == 512 << 20


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of POSIX")
def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match=r"pipe\.onnx: it is not a file"):
        read_model(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match="it is not a file"):
        read_model(tmp_path)


def test_name_that_no_system_has_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="is no name of a file"):
        read_model(Path("a\0b"))


def test_damaged_models_are_model_errors_and_nothing_else(tmp_path: Path) -> None:
    whole = tiny(tmp_path).SerializeToString()
    chance = random.Random(0)
    damaged = [whole[:size] for size in range(len(whole))]
    for _ in range(500):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(changed))
    damaged += [chance.randbytes(size) for size in range(200)]
    messages = [message for model in damaged if (message := complaint(model))]
    assert len(messages) > len(damaged) // 2
    assert not [message for message in messages if "\n" in message]


def test_what_onnx_runtime_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    """A loop, and an opset and a file format of the future."""
    path = Catalog.bundled().entry(WARP).path
    loop, opset, form = (onnx.load(str(path)) for _ in range(3))
    convolutions = [node for node in loop.graph.node if node.op_type == "Conv"]
    convolutions[0].input[0] = convolutions[-1].output[0]
    opset.opset_import[0].version = 99
    form.ir_version = 99
    for model, reason in ((loop, "acyclic"), (opset, "[Oo]pset"), (form, "IR version: 99")):
        (tmp_path / "warp.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match=rf"cannot load the model .*{reason}") as error:
            OnnxRuntimeEngine(tmp_path / "warp.onnx", WARP)
        assert "\n" not in str(error.value)
