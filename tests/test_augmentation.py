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


def test_an_upright_stroke_is_turned_and_slanted_to_either_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the other deformations a turn moves the ends of both strokes, a slant those of one."""
    for name in ("SCALE", "SHIFT", "HALVES", "TURN", "SHEAR"):
        monkeypatch.setattr(f"hwr_utils.augmentation.{name}", 0.0)
    monkeypatch.setattr("hwr_utils.augmentation.BEND", ())
    place = torch.linspace(-1, 1, 56)

    def leans(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return how far the top of the upright stroke is right of its foot, and the left of the level one above."""
        top, left = images[:, 0, 10:14], images[:, 0, :, 10:14]
        foot, right = images[:, 0, 42:46], images[:, 0, :, 42:46]
        upright = [(end.sum(1) * place).sum(1) / end.sum((1, 2)) for end in (top, foot)]
        level = [(end.sum(2) * place).sum(1) / end.sum((1, 2)) for end in (left, right)]
        return upright[0] - upright[1], level[1] - level[0]

    for name, together in (("TURN", True), ("SHEAR", False)):
        with monkeypatch.context() as one:
            one.setattr(f"hwr_utils.augmentation.{name}", 0.1)
            torch.manual_seed(1)
            upright, level = leans(augment(cross(100), 56))
        assert upright.min() < -0.05 and upright.max() > 0.05
        assert torch.allclose(upright, level, atol=0.03) if together else level.abs().max() < 0.01


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
