"""Checkpoints of known and of unknown networks, told apart and loaded by their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mien.engines.errors import ModelError
from mien.export.checkpoints.formats import FORMATS, recognise
from mien.export.checkpoints.reading import read_checkpoint
from mien.export.models.diffusion import UNetSpec
from mien.export.models.gans import CycleGanSpec, StarGanGenerator, StarGanSpec
from mien.export.models.parsers import (
    RESNET_50,
    RESNET_101,
    BiSeNet,
    BiSeNetSpec,
    DeepLab,
    DeepLabSpec,
)
from mien.export.models.small_unet import SmallSpec
from mien.export.models.trunks import ResNetSpec
from tests.export.checkpoints.files import (
    SMALL_BISENET,
    SMALL_CNN,
    SMALL_CYCLEGAN,
    SMALL_PAPER_UNET,
    SMALL_STARGAN,
    SMALL_UNET,
    SMALL_VAE,
    module_of,
    norms_of,
    saved,
    small_deeplab,
    state_of,
    with_running_statistics,
)

SPECS = {
    "StarGAN of the paper": SMALL_STARGAN,
    "public StarGAN": StarGanSpec(5, 8, 6, "deconv"),
    "wide StarGAN": StarGanSpec(15, 16, 1, "deconv"),
    "CycleGAN of the paper": SMALL_CYCLEGAN,
    "public CycleGAN": CycleGanSpec(8, 9, "deconv"),
    "affine CycleGAN": CycleGanSpec(8, 3, "deconv", affine=True),
    "CycleGAN with dropout": CycleGanSpec(8, 6, "deconv", dropout=True),
    "affine CycleGAN with dropout": CycleGanSpec(8, 2, "bilinear", affine=True, dropout=True),
    "DeepLabV3 on ResNet": small_deeplab(),
    "DeepLabV3 on a deeper ResNet": DeepLabSpec(ResNetSpec.of((1, 2, 3, 1), 0.125), 2, 8),
    "DeepLabV3 on MobileNetV3": DeepLabSpec.mobilenet(11, width=0.25, head=16),
    "student parser": DeepLabSpec.mobilenet(10, width=0.15, head=8, stride=8, rates=(2, 4)),
    "BiSeNet": SMALL_BISENET,
    "UNet of the diffusion paper": SMALL_PAPER_UNET,
    "its UNet on the label alone": UNetSpec(7, 0, 4),
    "small UNet": SMALL_UNET,
    "student": SmallSpec(widths=(16, 16), blocks=2, embedding=8, steps=4),
    "VAE": SMALL_VAE,
    "VAE without the emotion": replace(SMALL_VAE, is_projected=True),
    "classifier": SMALL_CNN,
    "classifier of luma": replace(SMALL_CNN, channels=1, is_projected=True),
}


@pytest.mark.parametrize("name", SPECS)
def test_sizes_are_read_from_the_tensors_and_the_weights_are_kept(
    name: str, tmp_path: Path
) -> None:
    spec, module = SPECS[name], module_of(SPECS[name])
    source = recognise(read_checkpoint(saved(module.state_dict(), tmp_path / "any.pth")))
    assert source.module.spec == spec
    assert not source.module.training
    for key, tensor in module.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(source.module.state_dict()[key], tensor)


def test_every_format_is_among_these_checkpoints(tmp_path: Path) -> None:
    found = {
        recognise(read_checkpoint(saved(state_of(spec), tmp_path / "any.pth"))).format.name
        for spec in SPECS.values()
    }
    assert found == {form.name for form in FORMATS}


@pytest.mark.parametrize(
    ("spec", "parameters", "tensors"),
    [
        (DeepLabSpec(ResNetSpec.of(RESNET_50), 19), 39_638_355, 362),
        (DeepLabSpec(ResNetSpec.of(RESNET_101), 19), 58_630_483, 668),
        (DeepLabSpec.mobilenet(19), 11_024_963, 352),
        (BiSeNetSpec(19), 13_150_272, 177),
        (StarGanSpec(5, 64, 6, "deconv"), 8_430_528, 52),
        (StarGanSpec(5, 64, 5, "deconv"), 7_249_856, 46),
        (CycleGanSpec(64, 9, "deconv"), 11_378_179, 48),
        (CycleGanSpec(32, 9, "deconv"), 2_850_563, 48),
    ],
    ids=["R50", "R101", "MobileNetV3", "BiSeNet", "StarGAN", "paper's", "CycleGAN", "ngf 32"],
)
def test_full_sizes_are_the_published_ones(spec: object, parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        module = module_of(spec)
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert len(module.state_dict()) == tensors


@pytest.mark.parametrize("spec", [SPECS["public StarGAN"], SPECS["affine CycleGAN"]], ids=str)
def test_running_statistics_change_nothing(spec: object, tmp_path: Path) -> None:
    module = module_of(spec)
    state = with_running_statistics(dict(module.state_dict()), norms_of(module))
    source = recognise(read_checkpoint(saved(state, tmp_path / "stats.pth")))
    assert source.module.state_dict().keys() == module.state_dict().keys()


def test_running_statistics_of_a_plain_cyclegan_change_nothing(tmp_path: Path) -> None:
    module = module_of(SMALL_CYCLEGAN)
    state = with_running_statistics(dict(module.state_dict()), norms_of(module))
    source = recognise(read_checkpoint(saved(state, tmp_path / "stats.pth")))
    assert source.module.spec == SMALL_CYCLEGAN


def test_a_stargan_normalises_by_the_picture_and_not_by_its_file(tmp_path: Path) -> None:
    module = module_of(SMALL_STARGAN)
    state = with_running_statistics(dict(module.state_dict()), norms_of(module))
    source = recognise(read_checkpoint(saved(state, tmp_path / "stats.pth")))
    picture, label = torch.rand(2, 3, 16, 16), torch.eye(3)[:2]
    with torch.inference_mode():
        torch.testing.assert_close(source.module(picture, label), module(picture, label))


def test_outputs_for_training_only_are_left_out(tmp_path: Path) -> None:
    extra = {"aux_classifier.4.weight": torch.zeros(19, 8, 1, 1)}
    path = saved(state_of(small_deeplab()) | extra, tmp_path / "aux.pth")
    assert isinstance(recognise(read_checkpoint(path)).module, DeepLab)
    extra = {"conv_out16.conv_out.weight": torch.zeros(19, 8, 1, 1)}
    path = saved(state_of(SMALL_BISENET) | extra, tmp_path / "aux.pth")
    assert isinstance(recognise(read_checkpoint(path)).module, BiSeNet)


def test_old_files_without_counters_are_taken(tmp_path: Path) -> None:
    state = state_of(small_deeplab())
    for key in [key for key in state if key.endswith("num_batches_tracked")]:
        del state[key]
    assert isinstance(recognise(read_checkpoint(saved(state, tmp_path / "a.pth"))).module, DeepLab)


def test_the_activation_can_be_chosen_where_no_weight_shows_it(tmp_path: Path) -> None:
    path = saved(state_of(SMALL_STARGAN), tmp_path / "fork.pth")
    usual, other = (recognise(read_checkpoint(path), a).module for a in (None, "relu"))
    assert isinstance(other, StarGanGenerator)
    assert other.spec == replace(SMALL_STARGAN, activation="relu")
    picture, label = torch.rand(1, 3, 16, 16), torch.eye(3)[:1]
    with torch.inference_mode():
        assert not torch.allclose(usual(picture, label), other(picture, label))


def refusal_of(state: dict[str, torch.Tensor], tmp_path: Path) -> str:
    path = saved(state, tmp_path / "bad.pth")
    with pytest.raises(ModelError) as caught:
        recognise(read_checkpoint(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 680
    return message


@pytest.mark.parametrize("name", SPECS)
def test_missing_tensors_are_named(name: str, tmp_path: Path) -> None:
    state = state_of(SPECS[name])
    wanted = [key for key in state if key.endswith("weight")][-1]
    del state[wanted]
    assert f"lacks {wanted}" in refusal_of(state, tmp_path)


@pytest.mark.parametrize("name", SPECS)
def test_a_file_without_its_first_tensor_is_refused(name: str, tmp_path: Path) -> None:
    state = state_of(SPECS[name])
    first = next(key for key in state if key.endswith("weight"))
    del state[first]
    assert first in refusal_of(state, tmp_path)


@pytest.mark.parametrize("name", SPECS)
def test_extra_tensors_are_counted_and_the_first_few_named(name: str, tmp_path: Path) -> None:
    state = state_of(SPECS[name]) | {f"extra.{n}": torch.zeros(1) for n in range(9)}
    message = refusal_of(state, tmp_path)
    assert "it also has extra.0, extra.1, extra.2 and 6 more" in message


@pytest.mark.parametrize("name", SPECS)
def test_wrong_shapes_are_told(name: str, tmp_path: Path) -> None:
    state = state_of(SPECS[name])
    norms = {"running_mean", "bias"}
    key = [key for key in state if key.rsplit(".", 1)[-1] in norms][-1]
    state[key] = torch.zeros(len(state[key]) + 1)
    assert f"{key} is ({len(state[key])},) and not" in refusal_of(state, tmp_path)


@pytest.mark.parametrize("name", SPECS)
def test_tensors_of_other_dimensions_are_refused(name: str, tmp_path: Path) -> None:
    state = {key: tensor.flatten()[:1] for key, tensor in state_of(SPECS[name]).items()}
    refusal_of(state, tmp_path)


@pytest.mark.parametrize(
    ("dtype", "told"), [(torch.int32, "int32"), (torch.bool, "bool"), (torch.complex64, "complex")]
)
def test_weights_that_are_no_real_numbers_are_refused(
    dtype: torch.dtype, told: str, tmp_path: Path
) -> None:
    state = state_of(SMALL_STARGAN)
    state["main.3.weight"] = state["main.3.weight"].to(dtype)
    message = refusal_of(state, tmp_path)
    assert "main.3.weight holds" in message
    assert told in message


def test_a_batch_norm_cyclegan_is_refused_with_its_reason(tmp_path: Path) -> None:
    state = state_of(CycleGanSpec(8, 2, "deconv", affine=True))
    state = with_running_statistics(state, ["model.2"])
    for key in [key for key in state if key.endswith("bias") and state[key].dim() == 1]:
        if (
            key.replace("bias", "weight") in state
            and state[key.replace("bias", "weight")].dim() > 1
        ):
            del state[key]
    assert "its normalisation is batch normalisation" in refusal_of(state, tmp_path)


OTHERS = {
    "a CLIP of Hugging Face": {"text_model.embeddings.position_ids": (1, 77)},
    "the discriminator of a StarGAN": {"main.0.weight": (64, 3, 4, 4), "main.0.bias": (64,)},
    "the discriminator of a CycleGAN": {"model.0.weight": (64, 3, 4, 4), "model.0.bias": (64,)},
    "the U-Net of pix2pix": {"model.model.0.weight": (64, 3, 4, 4)},
    "the LR-ASPP of torchvision": {
        "backbone.0.0.weight": (16, 3, 3, 3), "classifier.cbr.0.weight": (2, 2, 1, 1),
    },
    "the FCN of torchvision": {
        "backbone.conv1.weight": (64, 3, 7, 7), "classifier.0.weight": (2, 2, 3, 3),
    },
    "a regressor of 40 attributes": {"fc.weight": (40, 2048)},
    "a ResNet classifier": {"layer1.0.conv1.weight": (64, 64, 1, 1), "fc.weight": (1000, 2048)},
    "no network that mien export knows": {"anything.weight": (3, 3)},
}  # fmt: skip


@pytest.mark.parametrize("words", OTHERS)
def test_another_network_is_named(words: str, tmp_path: Path) -> None:
    state = {key: torch.zeros(shape) for key, shape in OTHERS[words].items()}
    message = refusal_of(state, tmp_path)
    assert words in message
    assert "DeepLabV3" in message, "it must say what mien export takes"


PARTIAL = {
    "a StyleGAN2 generator, but it lacks to_rgb1.conv.weight": {
        "style.1.weight": (512, 512), "convs.0.conv.weight": (1, 512, 512, 3, 3),
        "to_rgbs.0.bias": (1, 3, 1, 1),
    },
    "an e4e or pSp encoder, but its opts.encoder_type does not say": {
        "encoder.styles.0.linear.weight": (512, 512)
    },
    "a StyleCLIP mapper, but it lacks course_mapping.mapping.1.bias": {
        "mapper.course_mapping.mapping.1.weight": (512, 512)
    },
    "an ArcFace IR-SE50, but it lacks body.0.res_layer.1.weight": {
        "input_layer.0.weight": (64, 3, 3, 3), "output_layer.3.weight": (2, 2),
    },
    "a FaceCLIP or AttnGAN generator, but it lacks img_net1.img.0.weight": {
        "h_net1.fc.0.weight": (2, 2), "ca_net.fc.weight": (2, 2),
    },
    "a DAMSM text encoder, but it lacks rnn.weight_hh_l0": {
        "encoder.weight": (9, 300), "rnn.weight_ih_l0": (512, 300),
    },
    "a DAMSM image encoder, but it lacks Conv2d_1a_3x3.conv.weight": {
        "emb_cnn_code.weight": (2, 2048), "Mixed_5b.x": (2,),
    },
    "a CLIP of OpenAI, but it lacks transformer.resblocks.0.ln_1.weight": {
        "visual.conv1.weight": (2, 3, 32, 32), "token_embedding.weight": (2, 2),
    },
}  # fmt: skip


@pytest.mark.parametrize("words", PARTIAL)
def test_a_part_of_a_latent_network_is_named_with_what_it_lacks(words: str, tmp_path: Path) -> None:
    state = {key: torch.zeros(shape) for key, shape in PARTIAL[words].items()}
    assert words in refusal_of(state, tmp_path)


def test_a_training_checkpoint_of_stylegan2_is_named(tmp_path: Path) -> None:
    network = {"style.1.weight": torch.zeros(2, 2), "style.1.bias": torch.zeros(2)}
    for held in (
        {"g_ema": network, "g": {}, "d": {}},
        {"g_ema": network, "latent_avg": torch.zeros(2)},
    ):
        assert "a StyleGAN2 generator, but it lacks to_rgb1" in refusal_of(held, tmp_path)
