"""DAMSM at mien's own size: a small image encoder, and how sentences and pictures are matched.

Source: Xu et al., "AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative
Adversarial Networks" (2018), section 3.2; the constants are the paper's.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

SEEN = 64  # pixels a side of the luma that is looked at
REGIONS = 8
GAMMA1, GAMMA2, GAMMA3 = 4.0, 5.0, 10.0
ABSENT = -1e4
SQUARE = 1e-8  # the least length, squared, of what is divided by


def strided(inputs: int, outputs: int) -> nn.Sequential:
    """Half the size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class SmallImageEncoder(nn.Module):
    """Pictures (n, 3, s, s) in [-1, 1] to a code (n, width) and regions (n, width, 8, 8).

    s is a multiple of SEEN. Only luma is looked at, of one mean and contrast: most pictures that it
    can learn from have no more.
    """

    luma: torch.Tensor

    def __init__(self, width: int = 256, channels: int = 40) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("luma", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1))
        self.early = nn.Sequential(
            strided(1, channels),
            strided(channels, 2 * channels),
            strided(2 * channels, 4 * channels),
        )
        self.late = strided(4 * channels, 6 * channels)
        self.emb_features = nn.Conv2d(4 * channels, width, 1, bias=False)
        self.emb_cnn_code = nn.Linear(6 * channels, width)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        grey = (image * self.luma).sum(1, keepdim=True)
        factor = image.shape[-1] // SEEN
        seen = F.avg_pool2d(grey, factor) if factor > 1 else grey
        centred = seen - seen.mean((1, 2, 3), keepdim=True)
        deviation = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
        early = self.early(centred / (deviation + 0.05))
        code: torch.Tensor = self.emb_cnn_code(self.late(early).mean((2, 3)))
        return code, self.emb_features(early)


def word_scores(words: torch.Tensor, present: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """R(Q, D) of the paper's equations 7 to 10 for pictures and sentences: (n, m).

    words: (m, width, length), present: (m, length), regions: (n, width, h, w). A word that is
    missing takes part in nothing.
    """
    places = regions.flatten(2)  # n, width, regions
    absent = ((1 - present) * ABSENT)[None, None]  # 1, 1, m, length
    scores = torch.einsum("mdl,ndr->nrml", words, places)
    looked = (scores + absent).softmax(3)  # equation 8: over the words
    shares = (GAMMA1 * looked).softmax(1)  # equation 9: over the regions
    # The cosine of a word and its context, which is not made: it would be (n, m, width, length).
    along = (shares * scores).sum(1)
    alike = places.transpose(1, 2) @ places
    square = (shares * torch.einsum("nrs,nsml->nrml", alike, shares)).sum(1)
    lengths = square.clamp(min=SQUARE).sqrt() * words.norm(dim=1).clamp(min=SQUARE)
    near = along / lengths
    scored: torch.Tensor = (GAMMA2 * near + absent[:, 0]).logsumexp(2) / GAMMA2
    return scored


def code_scores(sentence: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """The cosine of each picture's code (n, width) and each sentence's (m, width): (n, m)."""
    return F.normalize(code, dim=1) @ F.normalize(sentence, dim=1).T


def matching_loss(scores: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """Equations 11 and 12, both ways, where a sentence may fit several pictures: fits (n, m)."""
    fits = fits + 1e-3 * torch.eye(*fits.shape, device=fits.device)
    logits = GAMMA3 * scores
    pictures = F.cross_entropy(logits, fits / fits.sum(1, keepdim=True))
    sentences = F.cross_entropy(logits.T, (fits / fits.sum(0)).T)
    return pictures + sentences
