"""A small network for thousands of classes: plain convolutions, and a classifier of low rank.

In K. Kim's network three quarters of the weights are the classifier's. Here it is the product of two thin matrices
(Sainath et al., ICASSP 2013), and what that saves goes into the convolutions and into keeping the places of strokes:
features are averaged over a few cells and not over the whole image.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwr_utils.errors import InputError

# How far the two views of an image are sheared, as tangents: what leans to the right becomes upright, and what rises to
# the right becomes level. Chosen on C016's characters, which lean, and on those of hwdb-subset, which rise.
SLANT, RISE = 0.18, 0.12


class Directions(nn.Module):
    """Fixed filters: how strongly the image brightens in each of eight directions (directMap, arXiv:1606.05763)."""

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        place = torch.arange(-2.0, 3.0)
        x, y = place.view(1, 5), place.view(5, 1)
        slope = torch.exp(-(x * x + y * y) / 2)  # of a Gauss bell of one pixel
        angles = [number * math.pi / 4 for number in range(8)]
        kernels = torch.stack([(math.cos(a) * x + math.sin(a) * y) * slope for a in angles])
        self.register_buffer("kernels", 2 * (kernels / kernels.abs().sum((1, 2), keepdim=True)).unsqueeze(1))

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 1, H, W) to (N, 9, H, W): the image, and its slope in eight directions."""
        return torch.cat([images, F.relu(F.conv2d(images, self.kernels, padding=2))], dim=1)


class Shear(nn.Module):
    """Shear square images of a fixed side: with a slope above 0, what leans to the right by this tangent is upright."""

    places: Tensor  # (H * H,) int64: where the pixel on the left of each source lies in a padded, flattened image
    shares: Tensor  # (H * H,) float32 in 0..1: the weight of the pixel on the right of it

    def __init__(self, image_size: int, slope: float) -> None:
        super().__init__()
        rows = torch.arange(image_size) + 0.5 - image_size / 2
        shift = -slope * rows.view(-1, 1)  # pixels to the right, at which the pixels of each row are found
        self.margin = math.ceil(slope * image_size / 2) + 1
        width = image_size + 2 * self.margin
        start = (torch.arange(image_size) * width + self.margin).view(-1, 1) + torch.arange(image_size)
        # made anew and not saved: the weights fit networks with and without this
        self.register_buffer("places", (start + shift.floor().long()).flatten(), persistent=False)
        self.register_buffer("shares", (shift - shift.floor()).expand(-1, image_size).flatten(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 1, H, H) to (N, 1, H, H), by linear interpolation along the rows."""
        flat = F.pad(images, (self.margin, self.margin)).flatten(1)
        left, right = flat[:, self.places], flat[:, self.places + 1]
        return (left + self.shares * (right - left)).view_as(images)


class Views(nn.Module):
    """Look at square images of a fixed side twice: with what leans made upright, and with what rises made level."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.side = image_size
        self.upright, self.level = Shear(image_size, SLANT), Shear(image_size, RISE)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 1, H, H) to (2 N, 1, H, H): the upright images, then the level ones."""
        return torch.cat([self.upright(images), self.level(images.mT).mT])


def _unit(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class CompactHCCR(nn.Module):
    """Seven convolutions on maps of three sizes, two of them with a skip connection, and a classifier of low rank.

    Args:
        n_classes: number of logits.
        image_size: side of the square one-channel input in pixels. At 56 the layers work on 28x28, 14x14 and 7x7.
        width: channels at 28x28 positions, a multiple of 4; deeper layers have up to four times as many.
        rank: of the classifier.
        cells: how many a side; the last features are averaged over each of them.
        entry: what the network is given: "gray" is the image; "directions" is what `Directions` makes of it;
            "straightened" is, in evaluation, what it makes of the two `Views`, and the answer is the mean of both. An
            image whose side is not `image_size`, as early in a training that begins with smaller ones, is read once, as
            it is.

    Raises:
        InputError: an impossible option.
    """

    def __init__(
        self,
        n_classes: int,
        image_size: int = 56,
        width: int = 80,
        rank: int = 192,
        cells: int = 2,
        entry: str = "directions",
    ) -> None:
        if entry not in ("gray", "directions", "straightened"):
            raise InputError(f"entry={entry!r} is unknown, expected gray, directions or straightened.")
        side = (((image_size + 1) // 2) // 4 + 1) // 2  # of the last features
        if width < 4 or width % 4 or rank < 1 or not 1 <= cells <= side:
            raise InputError(
                f"width={width}, rank={rank}, cells={cells}: a width of a multiple of 4, a rank of 1 or more and 1 to "
                f"{side} cells were expected at image_size={image_size}."
            )
        super().__init__()
        self.views = Views(image_size) if entry == "straightened" else None
        self.entry = nn.Identity() if entry == "gray" else Directions()
        first, second, third, last = width, width * 3 // 2, width * 3, width * 4
        self.stem = nn.Sequential(_unit(1 if entry == "gray" else 9, width // 2, 2), _unit(width // 2, first))
        self.widen2, self.keep2 = _unit(first, second), _unit(second, second)
        self.widen3, self.keep3 = _unit(second, third), _unit(third, third)
        self.last = _unit(third, last, 2)
        self.cells = cells
        self.narrow = nn.Linear(last * cells * cells, rank, bias=False)
        self.norm = nn.BatchNorm1d(rank)
        self.classifier = nn.Linear(rank, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 1, image_size, image_size) float images in 0..1 to (N, n_classes) logits."""
        n = len(images)
        if self.views and not self.training and images.shape[-1] == self.views.side:
            images = self.views(images)
        features = self.widen2(F.max_pool2d(self.stem(self.entry(images)), 2))
        features = self.widen3(F.max_pool2d(features + self.keep2(features), 2))
        features = self.last(features + self.keep3(features))
        step = features.shape[-1] // self.cells
        features = F.avg_pool2d(features, features.shape[-1] - (self.cells - 1) * step, step).flatten(1)
        if len(features) > n:  # in evaluation what follows is affine, so this gives the mean of the logits
            features = features.unflatten(0, (2, n)).mean(0)
        logits: Tensor = self.classifier(self.norm(self.narrow(features)))
        return logits
