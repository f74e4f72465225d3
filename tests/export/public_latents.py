"""The latent papers' other networks, written from their texts on weights by public names."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.clip import ClipImage, ClipText, TowerSpec
from mien.export.models.irse import ArcFace, EncoderSpec, LatentEncoder

State = dict[str, torch.Tensor]
STAGES = ((16, 2), (32, 2), (48, 2), (64, 1))
SMALL_ENCODER = EncoderSpec(layers=10, deltas=True, stages=STAGES, size=64)


def settled(module: nn.Module, seed: int = 0) -> nn.Module:
    """A module whose every tensor is as it may be after training."""
    torch.manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.dim() >= 2:
            tensor.normal_(0, 1 / math.sqrt(tensor[0].numel()))
        elif name.endswith("weight"):
            tensor.uniform_(0.3, 0.7)
        else:
            tensor.normal_(0, 0.2)
    return module.eval()


def encoder_state(spec: EncoderSpec, seed: int = 0) -> State:
    """As the public file has it: the codes' linear layers are scaled when they run."""
    state = dict(settled(LatentEncoder(spec), seed).state_dict())
    average = state.pop("latent_avg")
    for key, tensor in list(state.items()):
        if key.startswith("styles.") and key.endswith("linear.weight"):
            state[key] = tensor * math.sqrt(spec.style)
    return {f"encoder.{key}": tensor for key, tensor in state.items()} | {"latent_avg": average}


def batch_norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    shape = (1, -1) + (1,) * (x.dim() - 2)
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    x = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    if f"{name}.weight" in state:
        x = x * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)
    return x


def prelu(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return x.clamp(min=0) + state[f"{name}.weight"][:, None, None] * x.clamp(max=0)


def slow_trunk(
    state: State, stages: tuple[tuple[int, int], ...], image: torch.Tensor
) -> list[torch.Tensor]:
    """The map after each stage of an IR-SE network."""
    x = F.conv2d(image, state["input_layer.0.weight"], padding=1)
    x = prelu(state, "input_layer.2", batch_norm(state, "input_layer.1", x))
    maps, index = [], 0
    for _, count in stages:
        for number in range(count):
            name, stride = f"body.{index}", 2 if number == 0 else 1
            y = batch_norm(state, f"{name}.res_layer.0", x)
            y = F.conv2d(y, state[f"{name}.res_layer.1.weight"], padding=1)
            y = prelu(state, f"{name}.res_layer.2", y)
            y = F.conv2d(y, state[f"{name}.res_layer.3.weight"], stride=stride, padding=1)
            y = batch_norm(state, f"{name}.res_layer.4", y)
            gate = F.adaptive_avg_pool2d(y, 1)
            gate = F.relu(F.conv2d(gate, state[f"{name}.res_layer.5.fc1.weight"]))
            gate = torch.sigmoid(F.conv2d(gate, state[f"{name}.res_layer.5.fc2.weight"]))
            if f"{name}.shortcut_layer.0.weight" in state:
                short = F.conv2d(x, state[f"{name}.shortcut_layer.0.weight"], stride=stride)
                short = batch_norm(state, f"{name}.shortcut_layer.1", short)
            else:
                short = x[:, :, ::stride, ::stride]
            x, index = y * gate + short, index + 1
        maps.append(x)
    return maps


def align_corners(x: torch.Tensor, size: int) -> torch.Tensor:
    """Bilinear enlarging where the corner pixels stay at the corners, by its definition."""
    places = torch.arange(size, dtype=torch.float64) * (x.shape[-1] - 1) / (size - 1)
    low = places.floor().long().clamp(max=x.shape[-1] - 2)
    share = (places - low).float()
    x = x[:, :, low] * (1 - share)[:, None] + x[:, :, low + 1] * share[:, None]
    return x[..., low] * (1 - share) + x[..., low + 1] * share


def slow_encoder(state: State, spec: EncoderSpec, image: torch.Tensor) -> torch.Tensor:
    """Codes of e4e or pSp, with the average code added."""
    own = {key.removeprefix("encoder."): tensor for key, tensor in state.items()}
    maps = slow_trunk(own, spec.stages, image)
    middle = F.conv2d(maps[2], own["latlayer1.weight"], own["latlayer1.bias"])
    middle = middle + align_corners(maps[3], middle.shape[-1])
    fine = F.conv2d(maps[1], own["latlayer2.weight"], own["latlayer2.bias"])
    fine = fine + align_corners(middle, fine.shape[-1])
    codes = []
    for i in range(spec.layers):
        x = maps[3] if i < 3 else middle if i < 7 else fine
        k = 0
        while x.shape[-1] > 1:
            name = f"styles.{i}.convs.{2 * k}"
            x = F.conv2d(x, own[f"{name}.weight"], own[f"{name}.bias"], stride=2, padding=1)
            x, k = F.leaky_relu(x, 0.01), k + 1
        weight = own[f"styles.{i}.linear.weight"] / math.sqrt(spec.style)
        code = x.flatten(1) @ weight.T + own[f"styles.{i}.linear.bias"]
        codes.append(code if i == 0 or not spec.deltas else codes[0] + code)
    return torch.stack(codes, 1) + state["latent_avg"]


def arcface_state(seed: int = 0, *, affine: bool = True) -> State:
    return dict(settled(ArcFace(112, STAGES, length=32, affine=affine), seed).state_dict())


def slow_arcface(state: State, image: torch.Tensor) -> torch.Tensor:
    """Embeddings of pictures of 112 pixels, or FFHQ-aligned ones of 256."""
    if image.shape[-1] == 256:
        image = F.adaptive_avg_pool2d(image[:, :, 35:223, 32:220], (112, 112))
    x = slow_trunk(state, STAGES, image)[3]
    x = batch_norm(state, "output_layer.0", x).flatten(1)
    x = x @ state["output_layer.3.weight"].T + state["output_layer.3.bias"]
    return F.normalize(batch_norm(state, "output_layer.4", x), dim=1)


def clip_state(seed: int = 0) -> State:
    """Both towers, small: 128 and 64 channels, two blocks and one, vocabulary 99, patches of 8."""
    text = settled(ClipText(TowerSpec(128, 2, 48), context=12, vocabulary=99), seed)
    image = settled(ClipImage(TowerSpec(64, 1, 48), patch=8, size=32), seed)
    visual = {f"visual.{key}": tensor for key, tensor in image.state_dict().items()}
    own = {key: tensor for key, tensor in text.state_dict().items() if key != "mask"}
    return own | visual | {"logit_scale": torch.tensor(4.6)}


def slow_blocks(
    state: State, prefix: str, x: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """The residual blocks of a tower, attention by torch's own module."""
    width, index = x.shape[-1], 0
    while f"{prefix}transformer.resblocks.{index}.ln_1.weight" in state:
        name = f"{prefix}transformer.resblocks.{index}"

        def norm(which: str, y: torch.Tensor, name: str = name) -> torch.Tensor:
            return F.layer_norm(
                y, (width,), state[f"{name}.{which}.weight"], state[f"{name}.{which}.bias"]
            )

        attention = nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)
        attention.load_state_dict(
            {
                key.removeprefix(f"{name}.attn."): tensor
                for key, tensor in state.items()
                if key.startswith(f"{name}.attn.")
            }
        )
        y = norm("ln_1", x)
        x = x + attention(y, y, y, attn_mask=mask, need_weights=False)[0]
        y = norm("ln_2", x) @ state[f"{name}.mlp.c_fc.weight"].T + state[f"{name}.mlp.c_fc.bias"]
        y = y * torch.sigmoid(1.702 * y)
        x = x + y @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]
        index += 1
    return x


def slow_clip_text(state: State, tokens: torch.Tensor) -> torch.Tensor:
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"]
    mask = torch.full((tokens.shape[1],) * 2, float("-inf")).triu(1)
    x = slow_blocks(state, "", x, mask)
    x = F.layer_norm(x, x.shape[-1:], state["ln_final.weight"], state["ln_final.bias"])
    return x[torch.arange(len(x)), tokens.argmax(1)] @ state["text_projection"]


def slow_clip_image(state: State, image: torch.Tensor) -> torch.Tensor:
    kernel = state["visual.conv1.weight"]
    x = F.conv2d(image, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
    first = state["visual.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([first, x], 1) + state["visual.positional_embedding"]
    x = F.layer_norm(x, x.shape[-1:], state["visual.ln_pre.weight"], state["visual.ln_pre.bias"])
    x = slow_blocks(state, "visual.", x, None)[:, 0]
    x = F.layer_norm(x, x.shape[-1:], state["visual.ln_post.weight"], state["visual.ln_post.bias"])
    return x @ state["visual.proj"]


def mapper_state(levels: tuple[str, ...], style: int = 24, seed: int = 0) -> State:
    """Mappers by StyleCLIP's names; no level is one mapper of all layers."""
    chance = torch.Generator().manual_seed(seed)
    state = {}
    for level in levels or ("mapping",):
        for i in range(1, 5):
            name = f"mapper.{level}.mapping.{i}"
            state[f"{name}.weight"] = torch.randn(style, style, generator=chance) * 100
            state[f"{name}.bias"] = torch.randn(style, generator=chance) * 10
    return state


def slow_mapper(state: State, codes: torch.Tensor, levels: tuple[str, ...]) -> torch.Tensor:
    """w + 0.1 mapper(w), one sample after another."""
    parts = {"course_mapping": (0, 4), "medium_mapping": (4, 8), "fine_mapping": (8, 99)}
    edited = codes.clone()
    for level in levels or ("mapping",):
        start, end = parts.get(level, (0, 99))
        for sample, result in zip(codes, edited, strict=True):
            x = sample[start:end]
            x = x / (x.square().sum(0) / len(x) + 1e-8).sqrt()  # over the layers
            for i in range(1, 5):
                name = f"mapper.{level}.mapping.{i}"
                weight = state[f"{name}.weight"] * 0.01 / math.sqrt(x.shape[1])
                x = F.leaky_relu(x @ weight.T + state[f"{name}.bias"] * 0.01, 0.2) * math.sqrt(2)
            result[start:end] += 0.1 * x
    return edited
