import pytest
import torch
from torch.nn import functional as F

from mien.export.models.face_encoder import STYLE_DIM, FaceEncoder
from mien.export.models.stylegan2 import BLUR, Modulated, Synthesis, code_count


@pytest.mark.parametrize("up", [False, True])
def test_a_modulated_convolution_is_that_of_the_paper(up: bool) -> None:
    """Weights modulated for each sample, transposed convolution, then blur, one by one."""
    torch.manual_seed(0)
    layer = Modulated(5, 7, 16, up=up)
    torch.nn.init.normal_(layer.bias)
    x, code = torch.randn(2, 5, 6, 6), torch.randn(2, 16)
    weights = layer.weight[None] * layer.style(code)[:, None, :, None, None]
    weights = weights * torch.rsqrt(weights.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    blur = torch.outer(torch.tensor(BLUR), torch.tensor(BLUR))
    blur = (blur / blur.sum() * 4)[None, None]
    expected = []
    for sample, weight in zip(x, weights, strict=True):
        if up:
            y = F.conv_transpose2d(sample[None], weight.transpose(0, 1), stride=2)
            y = F.conv2d(F.pad(y, (1, 1, 1, 1)).transpose(0, 1), blur).transpose(0, 1)
        else:
            y = F.conv2d(sample[None], weight, padding=1)
        expected.append(F.leaky_relu(y + layer.bias[:, None, None], 0.2) * 2**0.5)
    torch.testing.assert_close(layer(x, code), torch.cat(expected), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [64, 128])
def test_the_encoder_gives_as_many_codes_as_the_generator_takes(size: int) -> None:
    codes = FaceEncoder(size).eval()(torch.zeros(2, 1, 64, 64))
    assert codes.shape == (2, code_count(size), STYLE_DIM)
    assert Synthesis(size)(codes).shape == (2, 1, size, size)
