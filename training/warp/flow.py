"""The flow of `mien.runtime.methods.warp.flow` once more in torch, batched and differentiable.

The runtime may not import torch and training needs gradients, so the formula stands twice; a test
holds the two together.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from mien.runtime.faces.topology import CONTOUR
from mien.runtime.methods.warp import editor, speech
from mien.runtime.methods.warp import flow as runtime_flow


def still_points(landmarks: torch.Tensor) -> torch.Tensor:
    """As `runtime.methods.warp.flow.still_points`: (n, 106, 2) to (n, m, 2)."""
    contour = landmarks[:, list(CONTOUR[::2])]
    outward = F.normalize(
        contour - landmarks[:, list(runtime_flow.BRIDGE_AND_TIP)].mean(1, keepdim=True), dim=2
    )
    brows = landmarks[:, list(runtime_flow.BROW_TOPS)]
    forehead = brows - torch.tensor([0.0, runtime_flow.FOREHEAD], device=landmarks.device)
    border = torch.from_numpy(runtime_flow.BORDER).to(landmarks.device)
    border = border.expand(len(landmarks), -1, -1)
    return torch.cat([contour + runtime_flow.RING * outward, forehead, border], 1)


def dense_flow(landmarks: torch.Tensor, displacement: torch.Tensor, size: int = 32) -> torch.Tensor:
    """As `runtime.methods.warp.flow.dense_flow`, batched: (n, 2, size, size)."""
    still = still_points(landmarks)
    carriers = list(runtime_flow.CARRIERS)
    moves = displacement[:, carriers]
    centres = torch.cat([landmarks[:, carriers] + moves, still], 1)
    values = torch.cat([-moves, torch.zeros_like(still)], 1)
    n, m, _ = centres.shape
    offsets = centres[:, :, None] - centres[:, None]
    system = centres.new_zeros(n, m + 1, m + 1)
    system[:, :m, :m] = -(offsets.square().sum(3) + runtime_flow.SOFTNESS**2).sqrt()
    system[:, torch.arange(m), torch.arange(m)] += runtime_flow.RIDGE
    system[:, :m, m] = 1
    system[:, m, :m] = 1
    weights = torch.linalg.solve(system, F.pad(values, (0, 0, 0, 1)))
    axis = (torch.arange(size, device=centres.device) + 0.5) / size
    dx = (axis[None, :, None] - centres[:, None, :, 0]).square()
    dy = (axis[None, :, None] - centres[:, None, :, 1]).square() + runtime_flow.SOFTNESS**2
    kernel = (dy[:, :, None] + dx[:, None]).sqrt().flatten(1, 2)
    flow = weights[:, m:] - kernel @ weights[:, :m]
    taper = (torch.minimum(axis, 1 - axis) / 0.06 - 0.15).clamp(0, 1)
    return flow.transpose(1, 2).reshape(n, 2, size, size) * (taper[:, None] * taper)


def with_outline(displacement: torch.Tensor) -> torch.Tensor:
    """As `runtime.methods.warp.editor.with_outline`, batched: (n, 106, 2)."""
    free = torch.ones(displacement.shape[1], device=displacement.device)
    free[list(CONTOUR)] = 0
    held = displacement * free[:, None]
    jaw = list(speech.JAW)
    drop = torch.zeros_like(held)
    drop[:, jaw, 1] = displacement[:, jaw, 1].clamp(min=0)
    return held + drop


def creased(light: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """As `runtime.methods.warp.editor.creased`, batched: (n, 1, 64, 64), of shares (n, 8)."""
    lights, below = (
        (share @ torch.from_numpy(each).to(share))[:, None, None, None]
        for each in (editor.LIGHTS, editor.BELOW_EYES)
    )
    reach = round(4 * editor.BROAD)  # as far as OpenCV's blur of floating-point numbers
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).to(light) / editor.BROAD) ** 2)
    kernel = kernel / kernel.sum()
    broad = F.pad(light, (reach,) * 4, mode="reflect")
    broad = F.conv2d(F.conv2d(broad, kernel[None, None, None]), kernel[None, None, :, None])
    fine = light - broad
    fine = torch.where(fine > 0, editor.GLEAM * fine, fine) * lights
    first, last = editor.BELOW_ROWS
    down = (torch.arange(light.shape[2]).to(light) - first) / (last - first)
    fine = fine * (1 + (below - 1) * down.clamp(0, 1)[:, None])
    return editor.DEEPEST * torch.tanh(fine / editor.DEEPEST)


def keep_lids(landmarks: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """As `runtime.methods.warp.speech.keep_blinks` between blinks, batched: (n, 106, 2)."""
    upper, lower = ([column[i] for eye in speech.LID_COLUMNS for column in eye] for i in (0, 1))
    y, dy = landmarks[..., 1], displacement[..., 1]
    height = (y[:, lower] - y[:, upper]).clamp(min=0)
    change = dy[:, lower] - dy[:, upper]
    shown = torch.maximum(-speech.NARROWEST * height, torch.minimum(speech.WIDEST * height, change))
    middle = (dy[:, upper] + dy[:, lower]) / 2
    shift = torch.zeros_like(dy)
    shift[:, upper] = middle - shown / 2 - dy[:, upper]
    shift[:, lower] = middle + shown / 2 - dy[:, lower]
    return torch.stack([displacement[..., 0], dy + shift], 2)


def hold_brows(landmarks: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """As `runtime.methods.warp.flow.hold_brows`, batched: (n, 106, 2)."""
    lower, eye, upper = (list(p) for p in zip(*runtime_flow.BROW_COLUMNS, strict=True))
    y, dy = landmarks[..., 1], displacement[..., 1]
    before = (y[:, eye] - y[:, lower]).clamp(min=0)
    after = y[:, eye] + dy[:, eye] - y[:, lower] - dy[:, lower]
    missing = (runtime_flow.BROW_ROOM * before - after).clamp(min=0)
    shift = torch.zeros_like(dy)
    shift[:, lower] = shift[:, upper] = -missing
    return torch.stack([displacement[..., 0], dy + shift], 2)


def keep_lips(
    displacement: torch.Tensor, opening: torch.Tensor, from_below: torch.Tensor
) -> torch.Tensor:
    """As `runtime.methods.warp.speech.keep_lips`, batched: (n, 106, 2), of (n,) each."""
    moves = displacement[..., 1]
    upper, lower = ([column[i] for column in speech.LIP_COLUMNS] for i in (1, 2))
    outer_up, outer_low = ([column[i] for column in speech.LIP_COLUMNS] for i in (0, 3))
    asked = moves[:, lower] - moves[:, upper]
    taken = asked - asked.clamp(min=0) * opening[:, None]
    share = torch.where(taken > 0, from_below[:, None], 0.5)
    above, below = (1 - share) * taken, -share * taken
    shift = torch.zeros_like(moves)
    shift[:, upper] = shift[:, outer_up] = above
    shift[:, lower] = shift[:, outer_low] = below
    for up, low, column in speech.LIP_SIDES:
        shift[:, up] = speech.BESIDE * above[:, column]
        shift[:, low] = speech.BESIDE * below[:, column]
    jaw = list(speech.JAW)
    shift[:, jaw] = -moves[:, jaw].clamp(min=0) * (1 - opening.clamp(max=1))[:, None]
    return torch.stack([displacement[..., 0], moves + shift], 2)


def warp(pictures: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Pictures (n, 1, h, w) seen through a flow (n, 2, *, *) in crop units."""
    size = pictures.shape[-1]
    if flow.shape[-1] != size:
        flow = F.interpolate(flow, size=(size, size), mode="bicubic", align_corners=False)
    axis = (torch.arange(size, device=pictures.device) + 0.5) / size
    x = axis[None, None] + flow[:, 0]
    y = axis[None, :, None] + flow[:, 1]
    grid = torch.stack([x, y], 3) * 2 - 1
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
