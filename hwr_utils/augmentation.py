"""Vary images of characters on the device, anew in every batch, as hands do.

This is a part of training, like the order of the images: torch's generator of the device decides it, so a run that is
resumed draws what it would have drawn without the stop.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

# Standard deviations about the image's middle, in units of half its side where they are lengths.
TURN, SHEAR, SCALE, SHIFT = 0.06, 0.10, 0.07, 0.04
HALVES = 0.10  # how far the middle moves to one side: one half of a character grows, the other shrinks
BEND = ((4, 0.055), (9, 0.016))  # of random fields: knots a side, and how far these move


def augment(images: Tensor, size: int) -> Tensor:
    """Return a new variant of each of (N, H, W) uint8 images, white ink on black.

    It is what a network takes: (N, 1, size, size) float32 in 0..1, channels last, on the images' device.
    """
    n, device = len(images), images.device
    line = (torch.arange(size, device=device) * 2 + 1) / size - 1
    plain = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)  # x, y
    turn, shear = TURN * torch.randn(n, device=device), SHEAR * torch.randn(n, device=device)
    grow, shift = torch.exp(SCALE * torch.randn(n, 2, device=device)), SHIFT * torch.randn(n, 2, device=device)
    matrix = torch.stack([grow[:, 0], shear - turn, turn, grow[:, 1]], dim=1).view(n, 1, 2, 2)
    grid = (plain.view(1, -1, 1, 2) * matrix).sum(-1).view(n, size, size, 2) + shift.view(n, 1, 1, 2)
    grid += HALVES * torch.randn(n, 1, 1, 2, device=device) * (1 - plain * plain)
    for knots, reach in BEND:
        field = reach * torch.randn(n, 2, knots, knots, device=device)
        field = F.interpolate(field, size=(size, size), mode="bicubic", align_corners=True)
        grid += field.permute(0, 2, 3, 1)
    # the grid (n, size, size, 2) says where in its image, from -1 to 1, each pixel of a result lies
    ink = F.grid_sample(images.unsqueeze(1).to(torch.float32).div_(255.0), grid, align_corners=False)
    return ink.contiguous(memory_format=torch.channels_last)
