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
# How far strokes are spread, of 0 to 1, and the darkness from which a pixel is ink. In short trials 0.3 did better on
# the characters of hwdb-subset than 0.5, and that better than 0.8.
EVENNESS, INK = 0.3, 0.35
ENTRIES = ("gray", "directions", "straightened", "equalised", "paired")


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


class Equalise(nn.Module):
    """Spread the strokes of images more evenly: narrow gaps between them become wider, and wide ones narrower.

    It is the nonlinear normalisation by line density that Liu and Marukawa describe (Pattern Recognition 38, 2005),
    `EVENNESS` of the way. The density at a place is one over the distance between the strokes to its sides, and its sum
    over a row or a column says how far that one is stretched. The box around the ink stays where it is.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 1, H, W) to (N, 1, H, W), both in 0..1."""
        ink = (images.detach()[:, 0] > INK).to(images.dtype)
        across, down = _sources(ink), _sources(ink.mT)
        return _picked(down) @ images @ _picked(across).mT


def _sources(ink: Tensor) -> Tensor:
    """Return (N, W) the places along x, from 0 to W, at which the middles of the columns are found in (N, H, W) ink.

    Columns left and right of the ink get a place far outside.
    """
    width = ink.shape[2]
    edge = torch.arange(width + 1, device=ink.device, dtype=ink.dtype)
    density = (_density(ink) + _density(ink.flip(2)).flip(2)).sum(1) / 2
    for _ in range(2):
        wide = F.pad(density.unsqueeze(1), (1, 1), mode="replicate").squeeze(1)
        density = (wide[:, :-2] + 2 * density + wide[:, 2:]) / 4
    inked = ink.amax(1)
    first = width - (inked * (width - edge[:-1])).amax(1, keepdim=True)
    last = (inked * edge[1:]).amax(1, keepdim=True)  # the ink lies between these two edges
    within = ((edge[:-1] >= first) & (edge[1:] <= last)).to(ink.dtype)
    density, side = density * within, (last - first).clamp(min=1)
    total = density.sum(1, keepdim=True)
    even = torch.where(total > 0, density / total.clamp(min=1e-6), within / side)
    share = EVENNESS * even + (1 - EVENNESS) * within / side  # of the new width, for each old column
    before = share.cumsum(1) - share
    target = (edge[:-1] + 0.5 - first) / side  # the middle of each new column, 0..1 within the ink
    passed = (target.unsqueeze(2) - before.unsqueeze(1)) / share.clamp(min=1e-6).unsqueeze(1)
    found = first + (passed.clamp(0, 1) * within.unsqueeze(1)).sum(2)
    return torch.where(within > 0, found, -width)


def _density(ink: Tensor) -> Tensor:
    """Return (N, H, W) one over the distance between the left edges of strokes before and after; 0 outside of them."""
    width = ink.shape[2]
    place = torch.arange(1.0, width + 1, device=ink.device, dtype=ink.dtype)
    starts = F.relu(ink - F.pad(ink, (1, 0))[:, :, :-1])
    before = _running_max(starts * place)
    after = F.pad(_running_max((starts * (width + 1 - place)).flip(2)).flip(2), (0, 1))[:, :, 1:]
    between = ((before > 0) & (after > 0)).to(ink.dtype)
    return between / (width + 1 - after - before).clamp(min=1)


def _running_max(values: Tensor) -> Tensor:
    """Return the greatest of the values (..., W), 0 or more, up to each; torch.cummax cannot be exported to LiteRT."""
    step = 1
    while step < values.shape[-1]:
        values = torch.maximum(values, F.pad(values, (step, 0))[..., :-step])
        step *= 2
    return values


def _picked(places: Tensor) -> Tensor:
    """Return the matrices (N, 1, W, W) that look up columns at `places` (N, W), by linear interpolation."""
    middle = torch.arange(places.shape[1], device=places.device, dtype=places.dtype) + 0.5
    return F.relu(1 - (places[:, None, :, None] - middle).abs())


def _unit(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class CompactHCCR(nn.Module):
    """Seven convolutions on maps of three sizes, two of them with a skip connection, and a classifier of low rank.

    At 56 pixels a side the layers work on 28x28, 14x14 and 7x7. Raises an InputError for an impossible option.

    Args:
        width: channels at 28x28 positions, a multiple of 4; deeper layers have up to four times as many.
        rank: of the classifier.
        cells: how many a side; the last features are averaged over each of them.
        entry: what the network is given: "gray" is the image; "directions" is what `Directions` makes of it;
            "straightened" is, in evaluation, what it makes of the two `Views`, and the answer is the mean of both;
            "equalised" is the same, and each view goes through `Equalise`, in training the image; "paired" reads each
            view, in training the image, as it is and through `Equalise`, and takes the mean. An image whose side is not
            `image_size`, as early in a training that begins with smaller ones, is not sheared.
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
        if entry not in ENTRIES:
            raise InputError(f"entry={entry!r} is unknown, expected one of {', '.join(ENTRIES)}.")
        side = (((image_size + 1) // 2) // 4 + 1) // 2  # of the last features
        if width < 4 or width % 4 or rank < 1 or not 1 <= cells <= side:
            raise InputError(
                f"width={width}, rank={rank}, cells={cells}: a width of a multiple of 4, a rank of 1 or more and 1 to "
                f"{side} cells were expected at image_size={image_size}."
            )
        super().__init__()
        self.views = Views(image_size) if entry in ("straightened", "equalised", "paired") else None
        self.equalise = Equalise() if entry in ("equalised", "paired") else nn.Identity()
        self.paired = entry == "paired"
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
        even = self.equalise(images)
        images = torch.cat([images, even]) if self.paired else even
        features = self.widen2(F.max_pool2d(self.stem(self.entry(images)), 2))
        features = self.widen3(F.max_pool2d(features + self.keep2(features), 2))
        features = self.last(features + self.keep3(features))
        step = features.shape[-1] // self.cells
        features = F.avg_pool2d(features, features.shape[-1] - (self.cells - 1) * step, step).flatten(1)
        if len(features) > n:  # in evaluation what follows is affine, so this gives the mean of the logits
            features = features.unflatten(0, (len(features) // n, n)).mean(0)
        return self.classifier(self.norm(self.narrow(features)))
