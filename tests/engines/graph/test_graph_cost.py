"""Graphs whose tensors are larger, or whose work is more, than their files let one think."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, helper, numpy_helper

from mien.engines import Catalog, EngineError, ModelError, Network, OnnxRuntimeEngine, TensorSpec
from mien.engines.catalog import ModelEntry
from mien.engines.ort.backend import check_runnable
from mien.engines.tensorrt.engine import PlanModel

SHAPE = (1, 3, 8, 8)
NETWORK = Network("tiny", (TensorSpec("x", SHAPE),), (TensorSpec("y", SHAPE),))
GIGABYTES = np.array([5_000_000_000])
PATH = Path("tiny.onnx")
node = helper.make_node


def model_of(
    nodes: Sequence[NodeProto], *, opset: int = 18, ir: int = 8, **weights: np.ndarray
) -> ModelProto:
    ends = [helper.make_tensor_value_info(name, 1, SHAPE) for name in "xy"]
    constants = [numpy_helper.from_array(np.asarray(w), name) for name, w in weights.items()]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir)
    helper.set_model_props(model, NETWORK.metadata())
    return model


def added(*nodes: NodeProto) -> list[NodeProto]:
    """The nodes, and two that add the largest value of `c` to the picture."""
    return [
        *nodes,
        node("ReduceMax", ["c"], ["largest"], keepdims=0),
        node("Add", ["x", "largest"], ["y"]),
    ]


def complaint(model: ModelProto, **limits: int) -> str:
    try:
        check_runnable(model.SerializeToString(), PATH, **limits)
    except ModelError as error:
        return str(error)
    return ""


LARGE: dict[str, Callable[[], ModelProto]] = {
    "ConstantOfShape": lambda: model_of(added(node("ConstantOfShape", ["s"], ["c"])), s=GIGABYTES),
    "of a Constant": lambda: model_of(
        added(
            node("Constant", [], ["s"], value_ints=GIGABYTES.tolist()),
            node("ConstantOfShape", ["s"], ["c"]),
        )
    ),
    "beyond 64 bits": lambda: model_of(
        added(node("ConstantOfShape", ["s"], ["c"])), s=np.array([1 << 32, 1 << 32])
    ),
    "Expand": lambda: model_of(
        added(node("Expand", ["x", "s"], ["c"])), s=np.array([10_000_000, 3, 8, 8])
    ),
    "Tile": lambda: model_of(
        added(node("Tile", ["x", "s"], ["c"])), s=np.array([10_000_000, 1, 1, 1])
    ),
    "Range": lambda: model_of(
        added(node("Range", ["a", "b", "d"], ["c"])),
        a=np.float32(0),
        b=np.float32(5e9),
        d=np.float32(1),
    ),
    "Pad": lambda: model_of(
        added(node("Pad", ["x", "s"], ["c"])), s=np.array([0, 0, 0, 0, 0, 0, 20_000, 20_000])
    ),
    "Pad of opset 10": lambda: model_of(
        added(node("Pad", ["x"], ["c"], pads=[0, 0, 0, 0, 0, 0, 20_000, 20_000])), opset=10
    ),
    "Resize": lambda: model_of(
        added(node("Resize", ["x", "", "s"], ["c"])), s=np.array([1, 1, 5e3, 5e3], np.float32)
    ),
    "Upsample": lambda: model_of(
        added(node("Upsample", ["x", "s"], ["c"])),
        opset=9,
        s=np.array([1, 1, 5e3, 5e3], np.float32),
    ),
    "OneHot": lambda: model_of(
        added(node("OneHot", ["i", "d", "v"], ["c"])),
        i=np.zeros(1000, np.int64),
        d=np.array(5_000_000),
        v=np.array([0, 1], np.float32),
    ),
    "RandomNormal": lambda: model_of(
        added(node("RandomNormal", [], ["c"], shape=[50_000, 50_000]))
    ),
    "Conv": lambda: model_of(
        added(node("Conv", ["x", "w"], ["c"], pads=[20_000] * 4)), w=np.ones((1, 3, 1, 1), "f4")
    ),
    "a product": lambda: model_of(
        added(node("MatMul", ["a", "b"], ["c"])),
        a=np.ones((40_000, 1), np.float32),
        b=np.ones((1, 40_000), np.float32),
    ),
    "an addition": lambda: model_of(
        added(node("Add", ["a", "b"], ["c"])),
        a=np.ones((40_000, 1), np.float32),
        b=np.ones((1, 40_000), np.float32),
    ),
    "doubled again and again": lambda: model_of(
        added(
            node("Concat", ["x", "x"], ["c0"], axis=0),
            *(node("Concat", [f"c{n}"] * 2, [f"c{n + 1}"], axis=0) for n in range(24)),
            node("Identity", ["c24"], ["c"]),
        )
    ),
    "what a deconvolution unfolds": lambda: model_of(
        added(node("ConvTranspose", ["x", "w"], ["c"])), w=np.ones((3, 3, 2000, 1000), np.float32)
    ),
    "many that are constant": lambda: model_of(
        [
            *(node("ConstantOfShape", ["s"], [f"c{n}"]) for n in range(40)),
            *(node("Add", [f"c{n}", "one"], [f"d{n}"]) for n in range(40)),
            *(node("ReduceMax", [f"d{n}"], [f"e{n}"], keepdims=0) for n in range(40)),
            node("Sum", ["x", *(f"e{n}" for n in range(40))], ["y"]),
        ],
        s=np.array([10_000_000]),
        one=np.float32(1),
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_graph_that_takes_gigabytes_is_refused_before_it_takes_them(name: str) -> None:
    assert "GB of memory, more than the 1.0 GB" in complaint(LARGE[name]())


def test_limit_can_be_lifted() -> None:
    model = LARGE["ConstantOfShape"]()
    assert "takes about 18.6 GB" in complaint(model)
    assert complaint(model, limit=20 << 30) == ""


def test_tensors_one_after_another_count_once() -> None:
    """Each takes 150 MB, for as long as the next one is made of it."""
    relus = [node("Relu", ["c0" if n == 0 else f"d{n}"], [f"d{n + 1}"]) for n in range(20)]
    first = node("Expand", ["x", "s"], ["c0"])
    nodes = added(first, *relus, node("Identity", ["d20"], ["c"]))
    model = model_of(nodes, s=np.array([200_000, 3, 8, 8]))
    assert "takes about 293 MB" in complaint(model, limit=200 << 20)
    assert complaint(model, limit=300 << 20) == ""


SLOW: dict[str, Callable[[], ModelProto]] = {
    "products": lambda: model_of(
        added(
            node("ReduceMax", ["x"], ["m"], keepdims=0),
            node("Expand", ["m", "s"], ["m0"]),
            *(node("MatMul", [f"m{n}", "w"], [f"m{n + 1}"]) for n in range(400)),
            node("Identity", ["m400"], ["c"]),
        ),
        s=np.array([5000, 1000]),
        w=np.ones((1000, 1000), np.float32),
    ),
    "a pool": lambda: model_of(
        added(node("MaxPool", ["x"], ["c"], kernel_shape=[12_000, 12_000], pads=[6000] * 4))
    ),
    "single elements": lambda: model_of(
        added(
            node("Expand", ["x", "s"], ["c0"]),
            *(node("Tan", [f"c{n}"], [f"c{n + 1}"]) for n in range(200)),
            node("Identity", ["c200"], ["c"]),
        ),
        s=np.array([200_000, 3, 8, 8]),
    ),
}


@pytest.mark.parametrize("name", SLOW)
def test_graph_that_takes_minutes_is_refused(name: str) -> None:
    assert "s, more than the 120 s that mien gives" in complaint(SLOW[name]())


def from_data(end: NodeProto) -> ModelProto:
    """A size that is computed from the picture."""
    return model_of(
        [
            node("ReduceMax", ["x"], ["m"], keepdims=0),
            node("Cast", ["m"], ["count"], to=7),
            node("Unsqueeze", ["count", "zero"], ["first"]),
            node("Concat", ["first", "rest"], ["s"], axis=0),
            end,
        ],
        zero=np.array([0]),
        rest=np.array([3, 8, 8]),
    )


@pytest.mark.parametrize("kind", ["between", "stated between", "an output"])
def test_size_that_depends_on_the_picture_is_refused(kind: str) -> None:
    if kind == "an output":
        model = from_data(node("Expand", ["x", "s"], ["y"]))
    else:
        model = from_data(node("ConstantOfShape", ["s"], ["c"]))
        model.graph.node.extend(added())
    if kind == "stated between":
        model.graph.value_info.append(helper.make_tensor_value_info("c", 1, (4,)))
    assert "does not follow from the graph" in complaint(model)


@pytest.mark.parametrize(
    "model",
    [
        model_of([node("Cast", ["x"], ["c"], to=8), node("Cast", ["c"], ["y"], to=1)]),
        model_of(added(node("Reshape", ["x", "s"], ["c"])), s=np.array([1] * 30 + [-1])),
    ],
    ids=["texts", "thirty sides"],
)
def test_what_is_no_tensor_of_a_network_is_refused(model: ModelProto) -> None:
    assert "is no tensor of numbers with up to 16 sides" in complaint(model)


@pytest.mark.parametrize("ir", [3, 8])
def test_weights_large_and_small_and_free_batches_are_taken(ir: int) -> None:
    """In the old form weights are listed as inputs as well."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("Reshape", ["a", "s"], ["b"]),
        node("Dropout", ["b"], ["b1", "mask"]),
        node("ReduceMean", ["b1", "axes"], ["mean"], keepdims=0),
        node("Add", ["x", "mean"], ["y"]),
    ]
    weights = {"w": np.ones((64, 3, 3, 3), np.float32), "axes": np.array([0, 1, 2, 3])}
    model = model_of(nodes, ir=ir, s=np.array([1, 64, 4, -1]), **weights)
    if ir == 3:
        for name, shape, kind in (("w", (64, 3, 3, 3), 1), ("s", (4,), 7), ("axes", (4,), 7)):
            model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    assert complaint(model) == ""


def test_every_shipped_model_is_far_below_the_limits() -> None:
    for entry in Catalog.bundled().entries:
        model = entry.path.read_bytes()
        check_runnable(model, Path("copy") / entry.file, limit=512 << 20)


def test_no_way_to_an_engine_leaves_the_check_out(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(LARGE["ConstantOfShape"]().SerializeToString())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = ModelEntry("tiny", "tiny", path.name, sha256, "-", 0.0, {}, "-", "-", tmp_path)
    for look in (
        lambda: OnnxRuntimeEngine(path, NETWORK),
        lambda: PlanModel.read(path, NETWORK),
        lambda: Catalog((entry,)).open("tiny"),
        entry.check_file,
    ):
        with pytest.raises(ModelError, match=r"tiny\.onnx takes about 18\.6 GB"):
            look()


def test_what_onnx_runtime_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    missing = model_of([node("Relu", ["nothing"], ["y"])])
    assert "cannot load the model tiny.onnx" in complaint(missing)
    path = tmp_path / "tiny.onnx"
    path.write_bytes(
        model_of([node("CumSum", ["x", "k"], ["y"])], k=np.array(99)).SerializeToString()
    )
    with OnnxRuntimeEngine(path, NETWORK) as engine, pytest.raises(EngineError) as caught:
        engine.infer({"x": np.zeros(SHAPE, np.float32)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["node", "input", "output", "weight", "metadata"])
def test_name_that_is_no_text_is_refused_in_silence(
    place: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = model_of([node("Add", ["x", "w"], ["y"])], w=np.float32(1))
    model.graph.name = "whole"
    whole = model.SerializeToString()
    old = {
        "node": helper.make_node("Add", ["x", "w"], ["y"]).SerializeToString(),
        "input": model.graph.input[0].SerializeToString(),
        "output": model.graph.output[0].SerializeToString(),
        "weight": model.graph.initializer[0].SerializeToString(),
        "metadata": model.metadata_props[0].SerializeToString(),
    }[place]
    letter = {"node": b"y", "input": b"x", "output": b"y", "weight": b"w", "metadata": b"m"}[place]
    changed = whole.replace(old, old.replace(letter, b"\xff", 1))
    assert changed != whole
    path = tmp_path / "tiny.onnx"
    path.write_bytes(changed)
    with pytest.raises(ModelError):
        OnnxRuntimeEngine(path, NETWORK)
    assert capfd.readouterr() == ("", "")
