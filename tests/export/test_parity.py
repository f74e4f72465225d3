"""Every network that mien declares or exports, in torch and in ONNX Runtime."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import mien.engines
from mien.engines import EngineError, ModelError, Network, OnnxRuntimeEngine, TensorSpec
from mien.engines.networks import (
    FACE_PARSER,
    STARGAN_FACE,
    cyclegan_network,
    parser_network,
    stargan_network,
)
from mien.export.checkpoints.formats import FORMATS
from mien.export.models.gans import CycleGanSpec, StarGanSpec
from mien.export.models.parsers import RESNET_50, RESNET_101, BiSeNetSpec, DeepLabSpec
from mien.export.models.trunks import ResNetSpec
from mien.export.onnx_file import OPSET, PARITY_KEY, SAME_CLASS_KEY, example_of, to_onnx, write_onnx
from mien.export.parity import (
    Allowed,
    Example,
    ParityError,
    compare,
    generator_examples,
    parser_examples,
)
from tests.export.checkpoints.files import SMALL_BISENET, module_of, read_back, small_deeplab

TOLERANCE = 1e-4
PARSER = Allowed(TOLERANCE, same_class=0.9999)


@dataclass(frozen=True)
class Case:
    """One network at one size: its declaration, and the sizes of its checkpoint."""

    network: Network
    spec: object

    @property
    def is_parser(self) -> bool:
        return self.network.name == FACE_PARSER.name


def mobile(classes: int, width: float = 1.0) -> DeepLabSpec:
    return DeepLabSpec.mobilenet(classes, width=width, head=round(256 * width))


def student_parser() -> DeepLabSpec:
    return DeepLabSpec.mobilenet(10, width=0.25, head=16, stride=8, rates=(3, 6, 12))


def resnet(blocks: tuple[int, ...]) -> DeepLabSpec:
    return DeepLabSpec(ResNetSpec.of(blocks), 19)


PAPER_STARGAN = StarGanSpec(labels=3)
PUBLIC_STARGAN = StarGanSpec(5, 64, 6, "deconv")
PAPER_CYCLEGAN = CycleGanSpec(ngf=32, blocks=9)
PUBLIC_CYCLEGAN = CycleGanSpec(64, 9, "deconv")

# The networks whose parity another file here tests, by the constant that it names.
ELSEWHERE = {
    "detector": ("models/test_landmarks_and_detector.py", "DETECTOR"),
    "landmarks": ("models/test_landmarks_and_detector.py", "LANDMARKS"),
    "warp": ("models/test_warp_and_occlusion.py", "WARP"),
    "occlusion": ("models/test_warp_and_occlusion.py", "OCCLUSION"),
    "judge": ("models/test_emotions.py", "EMOTION_CLASSIFIER"),
}
CASES = {
    "StarGAN, image, student": Case(
        stargan_network("stargan_image", labels=7), StarGanSpec(labels=7, conv_dim=16, blocks=2)
    ),
    "StarGAN, face, small": Case(STARGAN_FACE, StarGanSpec(labels=3, conv_dim=8, blocks=1)),
    "StarGAN, face, student": Case(STARGAN_FACE, StarGanSpec(labels=3, conv_dim=28)),
    "StarGAN, parts, student": Case(
        stargan_network("stargan_parts", labels=6, batch=4),
        StarGanSpec(labels=6, conv_dim=16, blocks=2),
    ),
    "CycleGAN, image, student": Case(cyclegan_network("cyclegan_image"), CycleGanSpec(16, 3)),
    "CycleGAN, face, with deconvolution": Case(
        cyclegan_network("cyclegan_face"), CycleGanSpec(8, 2, "deconv", dropout=True)
    ),
    "CycleGAN, parts, student": Case(
        cyclegan_network("cyclegan_parts", batch=4), CycleGanSpec(16, 3, affine=True)
    ),
    "DeepLabV3, student": Case(FACE_PARSER, student_parser()),
    "DeepLabV3 on ResNet, small": Case(parser_network(classes=19, size=64), small_deeplab()),
    "BiSeNet, small": Case(parser_network(classes=19, size=64), SMALL_BISENET),
}
# One of each architecture; the other sizes take 2 to 10 s of processor time each.
QUICK = (
    "StarGAN, face, small",
    "CycleGAN, face, with deconvolution",
    "DeepLabV3 on ResNet, small",
    "BiSeNet, small",
)
SLOW = {
    "StarGAN, image, paper": Case(stargan_network("stargan_image", labels=3), PAPER_STARGAN),
    "CycleGAN, image, paper": Case(cyclegan_network("cyclegan_image"), PAPER_CYCLEGAN),
    "StarGAN, parts, paper": Case(
        stargan_network("stargan_parts", labels=6, batch=4), StarGanSpec(labels=6)
    ),
    "StarGAN, public, 128 px": Case(
        stargan_network("stargan_image", labels=5, size=128), PUBLIC_STARGAN
    ),
    "StarGAN, public, 256 px": Case(
        stargan_network("stargan_image", labels=5, size=256), PUBLIC_STARGAN
    ),
    "CycleGAN, public, 256 px": Case(cyclegan_network("cyclegan_image", size=256), PUBLIC_CYCLEGAN),
    "DeepLabV3 R50, 256 px": Case(parser_network(classes=19), resnet(RESNET_50)),
    "DeepLabV3 R101, 128 px": Case(parser_network(classes=19, size=128), resnet(RESNET_101)),
    "DeepLabV3 MobileNetV3, 512 px": Case(parser_network(classes=19, size=512), mobile(19)),
    "BiSeNet, 512 px": Case(parser_network(classes=19, size=512), BiSeNetSpec(19)),
}


def check(case: Case, tmp_path: Path) -> None:
    module = read_back(case.spec, tmp_path)
    examples: list[Example] = []
    if case.is_parser:
        examples = parser_examples(case.network, "rgb")
    elif case.network.name.startswith(("stargan", "cyclegan")):
        examples = generator_examples(case.network, "luma")
    path = tmp_path / "made.onnx"
    parity = write_onnx(
        module,
        case.network,
        path,
        allowed=PARSER if case.is_parser else Allowed(TOLERANCE),
        examples=examples,
    )
    assert 0 < parity.difference <= TOLERANCE
    graph = onnx.load(str(path))
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert float(facts[PARITY_KEY]) == pytest.approx(parity.difference, rel=0.01)
    assert (SAME_CLASS_KEY in facts) == case.is_parser
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [OPSET]
    check_once_more(case, module, path, examples)


def check_once_more(case: Case, module: nn.Module, path: Path, examples: list[Example]) -> None:
    """Compare without the exporter's own comparison, on an input that it has not seen."""
    feeds = dict(examples[0].feeds if examples else example_of(case.network, 99))
    with OnnxRuntimeEngine(path, case.network) as engine, torch.inference_mode():
        found = engine.infer(feeds)
        given = module(*(torch.from_numpy(feeds[spec.name]) for spec in case.network.inputs))
    wanted = given if isinstance(given, tuple) else (given,)
    for spec, tensor in zip(case.network.outputs, wanted, strict=True):
        truth = tensor.numpy()
        size = max(1.0, float(np.abs(truth).max()))
        np.testing.assert_allclose(found[spec.name], truth, atol=TOLERANCE * size)
    if case.is_parser:
        classes = truth.argmax(1)
        assert len(np.unique(classes)) > 2, "a parser of one class cannot show a difference"
        assert (found["logits"].argmax(1) == classes).mean() >= 0.9999
    elif examples:
        assert truth.std() > 0.1, "a grey picture cannot show a difference"


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def test_torch_and_onnx_runtime_agree(name: str, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_torch_and_onnx_runtime_agree_at_full_size(name: str, tmp_path: Path) -> None:
    check(SLOW[name], tmp_path)


def declared_networks() -> set[str]:
    """The name of every network that a module of mien.engines declares."""
    modules = [
        importlib.import_module(f"mien.engines.{module.name}")
        for module in pkgutil.iter_modules(mien.engines.__path__)
    ]
    return {v.name for module in modules for v in vars(module).values() if isinstance(v, Network)}


def test_every_declared_network_has_a_parity_test() -> None:
    declared = declared_networks()
    assert len(declared) >= 12
    assert {case.network.name for case in CASES.values()} | ELSEWHERE.keys() >= declared


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_parity_tests_elsewhere_are_there(name: str) -> None:
    file, constant = ELSEWHERE[name]
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    assert re.search(rf"\({constant}\b|\b{constant}\)", text), f"{file} gives {constant} to no test"


def test_every_format_has_a_parity_test_in_the_size_of_its_public_files(tmp_path: Path) -> None:
    specs = {type(case.spec) for case in SLOW.values()}
    small = [
        StarGanSpec(3, 4, 1),
        CycleGanSpec(4, 1),
        mobile(3, 0.125),
        BiSeNetSpec(3, (8,) * 4, 8),
    ]
    tested = {type(spec) for spec in small} & specs
    # Those of the diffusion paper have theirs in test_diffusion.
    assert len(tested) == len([form for form in FORMATS if form.kind != "diffusion"])


def tiny(name: str = "tiny") -> Network:
    picture = TensorSpec("image", (1, 3, 8, 8), range=(-1.0, 1.0))
    return Network(name, (picture,), (TensorSpec("scores", (1, 3, 8, 8)),))


class Scores(nn.Module):
    """Class scores that are the picture, moved by `offset` where it is bright."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor([offset, 0.0, 0.0])[:, None, None])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.offset * (image > 0)


def test_all_mismatches_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    to_onnx(Scores(), tiny(), path)
    examples = [Example(f"picture {n}", example_of(tiny(), n)) for n in range(3)]
    with pytest.raises(ParityError) as caught:
        compare(Scores(0.7), tiny(), path, examples, Allowed(1e-4, same_class=0.9999))
    found = [(one.kind, one.example) for one in caught.value.mismatches]
    assert found == [(kind, f"picture {n}") for n in range(3) for kind in ("difference", "classes")]
    assert isinstance(caught.value, ModelError)
    assert str(caught.value).count("of scores on picture") == 6
    assert "\n" not in str(caught.value)


def test_values_may_differ_a_little_where_pixels_keep_their_class(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    to_onnx(Scores(), tiny(), path)
    example = Example("picture", example_of(tiny(), 1))
    near = compare(Scores(5e-5), tiny(), path, [example], Allowed(1e-4, same_class=0.95))
    assert 4e-5 < near.difference < 6e-5
    assert near.same_class is not None
    assert near.same_class > 0.95


def test_a_graph_that_gives_no_numbers_is_a_mismatch_of_its_own_kind(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    to_onnx(Scores(), tiny(), path)
    bad = {"image": np.full((1, 3, 8, 8), np.nan, np.float32)}
    examples = [Example("no numbers", bad), Example("picture", example_of(tiny(), 1))]
    with pytest.raises(ParityError) as caught:
        compare(Scores(0.5), tiny(), path, examples, Allowed(1e-4))
    assert [one.kind for one in caught.value.mismatches] == ["run", "difference"]


def test_another_shape_is_a_mismatch_of_its_own_kind(tmp_path: Path) -> None:
    class Half(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image[..., ::2]

    path = tmp_path / "tiny.onnx"
    to_onnx(Scores(), tiny(), path)
    example = Example("picture", example_of(tiny(), 1))
    with pytest.raises(ParityError) as caught:
        compare(Half(), tiny(), path, [example], Allowed(1e-4))
    assert [one.kind for one in caught.value.mismatches] == ["shape"]


def test_a_failed_parity_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="tiny: torch and ONNX Runtime differ"):
        write_onnx(Scores(), tiny(), tmp_path / "tiny.onnx", allowed=Allowed(-1.0))
    assert not list(tmp_path.iterdir())


def test_real_inputs_hold_a_face_in_the_range_of_the_network() -> None:
    network = stargan_network("stargan_parts", labels=6, batch=4)
    for example in generator_examples(network, "luma"):
        network.check_inputs(example.feeds)
        picture = example.feeds["image"]
        assert -1 <= picture.min() < -0.3 < 0.3 < picture.max() <= 1
        assert np.ptp(picture, axis=1).max() == 0, "luma is the same in all channels"
        np.testing.assert_array_equal(example.feeds["label"].sum(1), 1)
    coloured = generator_examples(network, "rgb")[0].feeds["image"]
    assert np.ptp(coloured, axis=1).max() > 0.3


def test_a_generator_refuses_batches_and_sizes_it_was_not_exported_for(tmp_path: Path) -> None:
    network = cyclegan_network("cyclegan_image", size=16)
    path = tmp_path / "small.onnx"
    to_onnx(module_of(CycleGanSpec(4, 1)), network, path)
    with OnnxRuntimeEngine(path, network) as engine:
        for shape in ((2, 3, 16, 16), (1, 3, 20, 20), (1, 1, 16, 16)):
            with pytest.raises(EngineError, match="expected float32"):
                engine.infer({"image": np.zeros(shape, np.float32)})


class Recording(nn.Module):
    """A convolution that keeps what it computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.seen: list[torch.dtype] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():
            self.seen.append(self.conv.weight.dtype)
        return self.conv(image.to(self.conv.weight.dtype)).float()


def test_a_module_in_half_precision_is_compared_in_single(tmp_path: Path) -> None:
    network = Network(
        "half", (TensorSpec("image", (1, 3, 8, 8)),), (TensorSpec("made", (1, 3, 8, 8)),)
    )
    module, path = Recording().half().eval(), tmp_path / "half.onnx"
    to_onnx(module, network, path, tolerance=0.01)
    module.seen.clear()
    examples = [Example("random input", example_of(network, 0))]
    assert compare(module, network, path, examples, Allowed(0.01)).difference < 0.01
    assert module.seen == [], "it was computed as a copy"
    assert module.conv.weight.dtype == torch.float16
