"""FaceCLIP's networks as their public files have them, and what they compute, from the papers."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.text_faces import GeneratorSpec, TextEncoder, TextGenerator
from tests.export.public_latents import State, batch_norm, settled

SMALL = GeneratorSpec(ngf=4, nef=12, condition=6, noise=5)
VOCABULARY = ("a", "happy", "woman", "with", "2", "raised", "brows", "cafe")


def generator_state(spec: GeneratorSpec, seed: int = 0) -> State:
    """With the weights that the public code makes and never uses."""
    state = dict(settled(TextGenerator(spec), seed).state_dict())
    for stage in range(2, spec.stages + 1):
        for name in ("att.conv_context2", "att.conv_context3", "channel_att.conv_context2",
                     "channel_att.conv_context3"):  # fmt: skip
            places = 64 * 64 if name.endswith("2") else 128 * 128
            weight = torch.zeros(places, spec.nef, 1, 1)
            if name.startswith("att") or spec.has_channels:
                state.setdefault(f"h_net{stage}.{name}.weight", weight)
    return state


def encoder_state(words: int, embedding: int = 20, hidden: int = 6, seed: int = 0) -> State:
    return dict(settled(TextEncoder(words, embedding, hidden), seed).state_dict())


def write_captions(path: Path, words: tuple[str, ...] = VOCABULARY) -> Path:
    """As AttnGAN writes it."""
    by_token = {0: "<end>", **{i + 1: word for i, word in enumerate(words)}}
    tokens = {word: token for token, word in by_token.items()}
    path.write_bytes(pickle.dumps([[[1, 2, 3]], [[2, 3]], by_token, tokens], protocol=2))
    return path


def slow_sentence(state: State, tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Words (1, 2h, L) and sentence (1, 2h) of one sentence of its own length, by torch's LSTM."""
    embedding = state["encoder.weight"]
    hidden = state["rnn.weight_hh_l0"].shape[1]
    rnn = nn.LSTM(embedding.shape[1], hidden, batch_first=True, bidirectional=True)
    rnn.load_state_dict(
        {k.removeprefix("rnn."): v for k, v in state.items() if k.startswith("rnn.")}
    )
    with torch.no_grad():
        words, (last, _) = rnn(embedding[tokens][None])
    return words.transpose(1, 2), torch.cat([last[0], last[1]], 1)


def glu(x: torch.Tensor) -> torch.Tensor:
    half = x.shape[1] // 2
    return x[:, :half] * torch.sigmoid(x[:, half:])


def slow_up(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return glu(batch_norm(state, f"{name}.2", F.conv2d(x, state[f"{name}.1.weight"], padding=1)))


def slow_stage(
    state: State, stage: int, x: torch.Tensor, words: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One stage with attention over a sentence of its own length: no mask, nothing padded."""
    name = f"h_net{stage}"
    count, channels, side, _ = x.shape
    context = torch.einsum(
        "cw,nwl->ncl", state[f"{name}.att.conv_context.weight"][:, :, 0, 0], words
    )
    scores = torch.einsum("nchw,ncl->nlhw", x, context)
    shares = scores.exp() / scores.exp().sum(1, keepdim=True)
    mixed = torch.einsum("ncl,nlhw->nchw", context, shares)
    parts = [x, mixed]
    key = f"{name}.channel_att.conv_context{stage}.weight"
    if key in state:
        places = torch.einsum("pw,nwl->npl", state[key][:, :, 0, 0], words)
        scores = torch.einsum("ncp,npl->ncl", mixed.flatten(2), places)
        looked = torch.einsum("ncl,npl->ncp", scores.softmax(2), places)
        parts.append(looked.view(count, channels, side, side))
    x, block = torch.cat(parts, 1), 0
    while f"{name}.residual.{block}.block.0.weight" in state:
        own = f"{name}.residual.{block}.block"
        y = batch_norm(state, f"{own}.1", F.conv2d(x, state[f"{own}.0.weight"], padding=1))
        y = batch_norm(state, f"{own}.4", F.conv2d(glu(y), state[f"{own}.3.weight"], padding=1))
        x, block = x + y, block + 1
    return slow_up(state, f"{name}.upsample", x), shares


def slow_pictures(
    state: State,
    z: torch.Tensor,
    eps: torch.Tensor,
    words: torch.Tensor,
    sentence: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Pictures and attention maps by name, of a sentence of its own length."""
    moments = glu(sentence @ state["ca_net.fc.weight"].T + state["ca_net.fc.bias"])
    half = moments.shape[1] // 2
    code = torch.cat([moments[:, :half] + eps * (moments[:, half:] / 2).exp(), z], 1)
    x = glu(batch_norm(state, "h_net1.fc.1", code @ state["h_net1.fc.0.weight"].T))
    x = x.view(len(z), -1, 4, 4)
    for i in range(1, 5):
        x = slow_up(state, f"h_net1.upsample{i}", x)
    found: dict[str, torch.Tensor] = {}
    stage = 1
    while True:
        for name in (f"img_net{stage}", "img_net"):
            if f"{name}.img.0.weight" in state:
                picture = F.conv2d(x, state[f"{name}.img.0.weight"], padding=1).tanh()
                found[f"image_{x.shape[-1]}"] = picture
        stage += 1
        if f"h_net{stage}.att.conv_context.weight" not in state:
            break
        side = x.shape[-1]
        x, found[f"attention_{side}"] = slow_stage(state, stage, x, words)
    if "img_net.img.0.weight" in state:
        return {
            k: v for k, v in found.items() if k in ("image_256", "attention_64", "attention_128")
        }
    return found
