"""Vary images of characters on the device, anew in every batch, as hands, pens and scanners do.

A part of training, like the order of the images: torch's generator of the device decides it, so a run that is resumed
draws what it would have drawn.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

KINDS = ("warp", "ink")  # shape alone; or pen, ink and scanner as well

# Standard deviations about the image's middle, in units of half its side where they are lengths.
TURN, SHEAR, SCALE, SHIFT = 0.06, 0.10, 0.07, 0.04
HALVES = 0.10  # how far the middle moves to one side: one half of a character grows, the other shrinks
BEND = ((4, 0.055), (9, 0.016))  # of random fields: knots a side, and how far these move

PEN = 0.03  # how much wider than two pixels strokes may be, as a part of the image's side; most are near two


def augment(images: Tensor, size: int, kind: str) -> Tensor:
    """Return a new variant, of one of `KINDS`, of each of (N, H, W) uint8 images, white ink on black.

    It is what a network takes: (N, 1, size, size) float32 in 0..1, channels last, on the images' device.
    """
    ink = images.unsqueeze(1).to(torch.float32).div_(255.0)
    if kind == "ink":
        ink = _pen(ink)
    ink = F.grid_sample(ink, _warped_grid(len(images), size, images.device), align_corners=False)
    if kind == "ink":
        ink = _scan(_erase(ink))
    return ink.contiguous(memory_format=torch.channels_last)


def _warped_grid(n: int, size: int, device: torch.device) -> Tensor:
    """Return (n, size, size, 2): where in its image, from -1 to 1, each pixel of a result lies."""
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
    return grid


def _between(low: float, high: float, like: Tensor) -> Tensor:
    """Return a uniform number an image, (N, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(like), 1, 1, 1, device=like.device)


def _blur(ink: Tensor) -> Tensor:
    """Give each pixel half its own ink and half that of its neighbours, in rows and then in columns."""
    kernel = torch.tensor([0.25, 0.5, 0.25], device=ink.device)
    return F.conv2d(F.conv2d(ink, kernel.view(1, 1, 1, 3), padding=(0, 1)), kernel.view(1, 1, 3, 1), padding=(1, 0))


def _pen(ink: Tensor) -> Tensor:
    """Draw with another pen: strokes of any width become a new one, with edges from soft to hard."""
    wanted = 2.1 + _between(0, 1, ink).square() * PEN * ink.shape[-1]
    for _ in range(2):
        thick, thin = F.max_pool2d(ink, 3, 1, 1), -F.max_pool2d(-ink, 3, 1, 1)
        # a pixel is lost on either side of a line, so this is about how wide the lines are
        width = 2 * ink.sum((2, 3), keepdim=True) / (ink - thin).sum((2, 3), keepdim=True).clamp(min=1e-3)
        change = ((wanted - width) / 2).clamp(-1, 1)
        ink = ink + change.clamp(min=0) * (thick - ink) + change.clamp(max=0) * (ink - thin)
    soft = ink.lerp(_blur(ink), _between(0, 0.6, ink))
    return ((soft - _between(0, 0.1, ink)) * _between(1, 1.6, ink)).clamp(0, 1)


def _erase(ink: Tensor) -> Tensor:
    """Lose the ink of a small rectangle in a sixth of the images, as a dry pen or an edge does."""
    line = torch.linspace(-1, 1, ink.shape[-1], device=ink.device)
    inside = [(line - _between(-1, 1, ink).flatten(1)).abs() < _between(0.05, 0.2, ink).flatten(1) for _ in "xy"]
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :] & (_between(0, 6, ink) < 1)
    return ink * (1 - hole * _between(0.3, 1, ink))


def _scan(ink: Tensor) -> Tensor:
    """Make ink fainter, uneven and noisy."""
    level = _between(0.6, 1, ink)
    grain = 1 + _between(0, 0.15, ink) * torch.randn_like(ink)
    paper = _between(0, 0.02, ink) * torch.randn_like(ink)
    return (ink * level * grain + paper).clamp(0, 1)
