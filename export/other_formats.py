"""Checkpoints that are met beside those mien exports, told by the names of their tensors."""

from __future__ import annotations

from collections.abc import Callable

from mien.export.resnet import Shapes

NOT_YET = "which mien export does not take yet"


def other_format(shapes: Shapes) -> str | None:
    """What a checkpoint looks like that mien does not export, or None."""
    return next((words for fits, words in OTHERS if fits(shapes)), None)


def _begins(*starts: str) -> Callable[[Shapes], bool]:
    """Whether for each of `starts` a name begins with it."""
    return lambda shapes: all(any(key.startswith(start) for key in shapes) for start in starts)


def _sides(key: str, *sides: int | None) -> Callable[[Shapes], bool]:
    """Whether a tensor has these sides; None stands for any."""

    def fits(shapes: Shapes) -> bool:
        shape = shapes.get(key, ())
        return len(shape) == len(sides) and all(
            wanted in (None, side) for wanted, side in zip(sides, shape, strict=True)
        )

    return fits


# First match; the names inside a file that holds several networks begin with the network's.
OTHERS: tuple[tuple[Callable[[Shapes], bool], str], ...] = (
    (_begins("encoder.styles."), f"an e4e or pSp encoder, {NOT_YET}"),
    (_begins("mapper."), f"a StyleCLIP mapper, {NOT_YET}"),
    (_begins("g_ema."), f"a StyleGAN2 training checkpoint, {NOT_YET}"),
    (_begins("style.1.", "convs.0.", "to_rgbs."), f"a StyleGAN2 generator, {NOT_YET}"),
    (_begins("input_layer.0.", "output_layer."), f"an ArcFace IR-SE50, {NOT_YET}"),
    (_begins("plfd_backbone."), f"a PFLD landmark network, {NOT_YET}"),
    (_begins("inc.double_conv.", "sa1."), f"the UNet of a diffusion model, {NOT_YET}"),
    (_begins("h_net1.", "ca_net."), f"a FaceCLIP or AttnGAN generator, {NOT_YET}"),
    (_begins("rnn.weight_ih_l0", "encoder.weight"), f"a DAMSM text encoder, {NOT_YET}"),
    (_begins("emb_features.", "Mixed_5b."), f"a DAMSM image encoder, {NOT_YET}"),
    (_begins("visual.", "token_embedding."), f"a CLIP of OpenAI, {NOT_YET}"),
    (_begins("text_model."), f"a CLIP of Hugging Face, {NOT_YET}"),
    (_begins("vision_model."), f"a CLIP of Hugging Face, {NOT_YET}"),
    (
        _sides("main.0.weight", None, 3, 4, 4),
        "the discriminator of a StarGAN, which is for training only: give the file *-G.ckpt",
    ),
    (
        _sides("model.0.weight", None, None, 4, 4),
        "the discriminator of a CycleGAN, which is for training only: give the file *_net_G*.pth",
    ),
    (_begins("model.model."), "the U-Net of pix2pix; train with --netG resnet_9blocks"),
    (_begins("backbone.", "classifier.cbr."), "the LR-ASPP of torchvision"),
    (_begins("backbone.", "classifier.0.weight"), "the FCN of torchvision"),
    (_sides("fc.weight", 40, None), f"a regressor of 40 attributes, {NOT_YET}"),
    (_begins("layer1.0.conv1.", "fc."), "a ResNet classifier"),
    (_begins("stem.0.", "body.0.path."), "the emotion classifier of mien.training emotions"),
)
