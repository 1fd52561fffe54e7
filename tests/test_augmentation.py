"""Variants of training images: of the right form, decided by the seed, and still the same characters."""

import pytest
import torch

from hwr_utils.augmentation import augment


def cross(n: int, side: int = 56) -> torch.Tensor:
    """Return (n, side, side) uint8 with two strokes of four pixels."""
    images = torch.zeros(n, side, side, dtype=torch.uint8)
    middle = slice(side // 2 - 2, side // 2 + 2)
    images[:, middle, 6:-6] = 255
    images[:, 6:-6, middle] = 255
    return images


@pytest.mark.parametrize(("side", "size"), [(56, 56), (56, 32), (28, 28)])
def test_variants_have_the_form_of_an_input(side: int, size: int) -> None:
    images = cross(9, side)
    torch.manual_seed(3)
    first = augment(images, size)
    assert first.shape == (9, 1, size, size) and first.dtype == torch.float32
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert first.min() >= 0 and first.max() <= 1 and first.isfinite().all()
    assert (images == cross(9, side)).all(), "the stored images stay"
    torch.manual_seed(3)
    assert torch.equal(augment(images, size), first)
    assert not torch.equal(augment(images, size), first), "fresh in every batch"
    assert len({image.numpy().tobytes() for image in first}) == 9, "each image has its own"


def test_characters_stay_in_the_image_and_keep_their_ink() -> None:
    """A cross is moved, not lost: its ink stays about the middle, and no variant is blank."""
    torch.manual_seed(0)
    images = augment(cross(200), 56)
    ink = images.sum((1, 2, 3))
    assert ink.min() > 0.1 * ink.mean()
    place = torch.linspace(-1, 1, 56)
    for axis in (2, 3):
        centre = (images.sum((1, 5 - axis)) * place).sum(1) / ink
        assert centre.abs().max() < 0.5 and 0.02 < centre.std() < 0.25
    blank = augment(torch.zeros(4, 56, 56, dtype=torch.uint8), 56)
    assert blank.isfinite().all() and blank.mean() < 0.05
