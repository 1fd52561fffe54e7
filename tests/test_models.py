"""Networks: the numbers of the classic example, counted and by hand, and what they take."""

import pytest
import torch
import torchvision
from torch import nn

import helpers  # noqa: F401  sets one thread
from hwr_utils import models
from hwr_utils.errors import InputError
from hwr_utils.models import layer_table
from hwr_utils.models.compact_hccr import RISE, SLANT, Directions, Equalise, Views
from hwr_utils.models.inception_hccr import MODULES, Inception
from hwr_utils.models.resnet50 import ResNet50


def simple(n_classes: int = 10, image_size: int = 28, dropout: bool = False) -> nn.Module:
    return models.build("simple_cnn", n_classes, image_size, {"dropout": dropout})


def test_the_simple_cnn_is_keras_mnist_cnn() -> None:
    rows = layer_table(simple(), 28)
    assert list(rows.itertuples(index=False, name=None)) == [
        ("conv1", "Conv2d", (32, 26, 26), 320, 194_688),
        ("conv2", "Conv2d", (64, 24, 24), 18_496, 10_616_832),
        ("dense", "Linear", (128,), 1_179_776, 1_179_648),
        ("classifier", "Linear", (10,), 1_290, 1_280),
    ]
    # the total is the one that Keras prints for its example
    assert rows.parameters.sum() == 1_199_882 == sum(p.numel() for p in simple().parameters())
    assert rows.macs.sum() == 11_992_448


def test_weights_begin_as_keras_begins() -> None:
    torch.manual_seed(0)
    model = simple()
    limits = {
        "conv1": (6 / (9 + 32 * 9)) ** 0.5,
        "conv2": (6 / (32 * 9 + 64 * 9)) ** 0.5,
        "dense": (6 / (9216 + 128)) ** 0.5,
        "classifier": (6 / (128 + 10)) ** 0.5,
    }
    for name, limit in limits.items():
        layer = model.get_submodule(name)
        assert layer.weight.abs().max() <= limit and layer.weight.abs().max() > 0.9 * limit
        assert not layer.bias.any()


def test_the_network_computes_what_its_text_says() -> None:
    """Compare with the textbook order: convolve, ReLU, convolve, ReLU, pool, dense, ReLU, dense."""
    torch.manual_seed(0)
    model = simple(4, 16).eval()
    layers = {name: model.get_submodule(name) for name in ("conv1", "conv2", "dense", "classifier")}
    book = nn.Sequential(
        *(layers["conv1"], nn.ReLU(), layers["conv2"], nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(layers["dense"], nn.ReLU(), layers["classifier"]),
    )
    images = torch.rand(5, 1, 16, 16)
    assert torch.equal(model(images), book(images))
    dropping = simple(4, 16, dropout=True)
    dropping.load_state_dict(model.state_dict())
    assert [layer.p for layer in dropping.modules() if isinstance(layer, nn.Dropout)] == [0.25, 0.5]
    assert not torch.equal(dropping(images), dropping(images))
    assert torch.equal(dropping.eval()(images), book(images)), "it drops in training only"


def resnet(n_classes: int = 10, image_size: int = 64, pooling: str = "global") -> ResNet50:
    model = models.build("resnet50", n_classes, image_size, {"pooling": pooling})
    assert isinstance(model, ResNet50)
    return model


@pytest.mark.parametrize("size", [32, 64])  # the last map has one pixel, which is computed otherwise, or four
def test_resnet50_is_torchvisions_on_three_equal_channels_with_its_gradients(size: int) -> None:
    torch.manual_seed(0)
    ours = resnet(image_size=size).double()
    torch.manual_seed(0)
    whole = torchvision.models.resnet50(weights=None, num_classes=10).double()
    theirs = whole.state_dict()
    assert list(ours.state_dict()) == list(theirs)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.state_dict().items())

    images = torch.rand(4, 1, size, size, dtype=torch.float64)
    labels = torch.tensor([1, 2, 3, 4])
    for model, batch in ((ours, images), (whole, images.expand(-1, 3, -1, -1))):
        nn.functional.cross_entropy(model(batch), labels).backward()
    pairs = list(zip(ours.named_parameters(), whole.parameters(), strict=True))
    assert len(pairs) == 161
    for (name, mine), other in pairs:
        assert mine.grad is not None and other.grad is not None and mine.grad.shape == other.grad.shape
        assert torch.allclose(mine.grad, other.grad, rtol=1e-6, atol=1e-8), name
    # the running statistics of both have moved, and alike
    assert not torch.equal(whole.bn1.running_mean, torch.zeros(64, dtype=torch.float64))
    for (name, mine), other in zip(ours.named_buffers(), whole.buffers(), strict=True):
        assert torch.allclose(mine.double(), other.double(), rtol=1e-9, atol=1e-12), name
    ours.eval(), whole.eval()
    with torch.no_grad():
        assert torch.allclose(ours(images), whole(images.expand(-1, 3, -1, -1)), rtol=1e-9, atol=1e-12)


def test_the_poolings_are_what_they_are_said_to_be() -> None:
    feature_map = torch.rand(2, 2048, 7, 7)
    whole, corner = (resnet(image_size=224, pooling=pooling).avgpool(feature_map) for pooling in ("global", "avg4"))
    assert whole.shape == corner.shape == (2, 2048, 1, 1)
    assert torch.allclose(whole, nn.functional.avg_pool2d(feature_map, 7, stride=4))
    assert torch.allclose(corner[:, :, 0, 0], feature_map[:, :, :4, :4].mean(dim=(2, 3)))
    for size in (96, 225):  # where it would leave no single value
        with pytest.raises(InputError, match=rf"pooling=avg4 .* image_size={size}"):
            resnet(image_size=size, pooling="avg4")


def test_inception_has_the_counts_of_its_description() -> None:
    """Count by hand, from the widths alone: convolutions without bias, and two numbers a channel to normalise."""
    model = models.build("inception_hccr", 3755, 56, {})
    rows = layer_table(model, 56)
    parameters = 9 * 32 + 2 * 32 + 9 * 32 * 64 + 2 * 64
    macs = 56 * 56 * 9 * 32 + 28 * 28 * 9 * 32 * 64
    inputs = 64
    for (one, less3, three, less5, five, pooled), side in zip(MODULES, (28, 14, 14, 7), strict=True):
        weights = inputs * (one + less3 + less5 + pooled) + 9 * less3 * three + 25 * less5 * five
        parameters += weights + 2 * (one + less3 + three + less5 + five + pooled)
        macs += side * side * weights
        inputs = one + three + five + pooled
    assert rows.parameters.sum() == parameters + (inputs + 1) * 3755
    assert rows.macs.sum() == macs + inputs * 3755
    # one byte a weight, and 50 kB for the rest of the file, is within K. Kim's 3.23 MB
    assert parameters + (inputs + 1) * 3755 < 3_180_000


def test_the_plain_network_is_as_large_as_the_one_it_is_compared_with() -> None:
    inception, plain = (layer_table(models.build(name, 64, 56, {}), 56) for name in ("inception_hccr", "plain_hccr"))
    assert plain.parameters.sum() == pytest.approx(inception.parameters.sum(), rel=0.01)
    assert list(plain.layer.iloc[[0, 2, -1]]) == list(inception.layer.iloc[[0, 2, -1]])  # the stem and the classifier
    kernels = plain[plain.kind == "Conv2d"]
    assert len(kernels) == 6  # two of the stem and one for each module


def test_an_inception_module_joins_its_four_branches() -> None:
    torch.manual_seed(0)
    module = Inception(3, 4, 2, 5, 2, 6, 7).eval()
    features = torch.rand(2, 3, 9, 9)
    whole = module(features)
    assert whole.shape == (2, 22, 9, 9) and module.channels == 22
    one, three, five, pooled = whole.split([4, 5, 6, 7], dim=1)

    def unit(layer: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        convolution, norm = layer[0], layer[1]  # type: ignore[index]
        kernel = convolution.weight
        values = nn.functional.conv2d(inputs, kernel, padding=kernel.shape[-1] // 2)
        return torch.relu(values / (1 + norm.eps) ** 0.5)  # before any training the mean is 0 and the variance 1

    assert torch.allclose(one, unit(module.one, features), atol=1e-6)
    assert torch.allclose(three, unit(module.three[1], unit(module.three[0], features)), atol=1e-6)
    assert torch.allclose(five, unit(module.five[1], unit(module.five[0], features)), atol=1e-6)
    widest = nn.functional.max_pool2d(features, 3, stride=1, padding=1)
    assert torch.allclose(pooled, unit(module.pooled[1], widest), atol=1e-6)


def test_directions_tell_which_way_an_image_brightens() -> None:
    image = torch.zeros(1, 1, 24, 24)
    image[..., 12:] = 1  # to the right
    for turns in range(4):
        answer = Directions()(torch.rot90(image, -turns, (2, 3)))[0, 1:, 6:18, 6:18].amax((1, 2))
        assert answer.argmax() == 2 * turns and answer[2 * turns] == pytest.approx(1, abs=0.05)
        assert answer[(2 * turns + 4) % 8] < 1e-6, "the other way"
        assert answer[(2 * turns + 1) % 8] == pytest.approx(float(answer[(2 * turns - 1) % 8]), abs=1e-5)


def test_a_classifier_of_low_rank_costs_its_rank_a_class() -> None:
    few, many = (models.build("compact_hccr", classes, 48, {"rank": 96}) for classes in (100, 3755))
    grown = sum(p.numel() for p in many.parameters()) - sum(p.numel() for p in few.parameters())
    assert grown == 3655 * (96 + 1)
    for size in (28, 32, 40, 48, 56):
        assert few.eval()(torch.zeros(1, 1, size, size)).shape == (1, 100), "one network for all sizes"


def test_the_two_views_are_torchs_shears_and_the_answer_is_their_mean() -> None:
    images = torch.rand(3, 1, 56, 56)
    line = (torch.arange(56) * 2 + 1) / 56 - 1
    x, y = torch.meshgrid(line, line, indexing="xy")
    views = Views(56)(images)
    for view, places in zip(views.split(3), ([x - SLANT * y, y], [x, y - RISE * x]), strict=True):
        grid = torch.stack(places, dim=-1).expand(3, -1, -1, -1)
        assert torch.allclose(view, nn.functional.grid_sample(images, grid, align_corners=False), atol=1e-4)
    two, one = (
        models.build("compact_hccr", 10, 56, {"width": 8, "entry": entry}) for entry in ("straightened", "directions")
    )
    one.load_state_dict(two.state_dict())  # the same weights
    assert torch.allclose(two.train()(images), one.train()(images)), "it is trained on the image alone"
    two, one = two.eval(), one.eval()
    assert torch.allclose(two(images), one(views).unflatten(0, (2, 3)).mean(0), atol=1e-5)
    assert models.layer_table(two, 56)["macs"].iloc[0] == 2 * models.layer_table(one, 56)["macs"].iloc[0]
    smaller = images[..., :32, :32]
    assert torch.equal(two(smaller), one(smaller))
    four = models.build("compact_hccr", 10, 56, {"width": 8, "entry": "paired"})
    four.load_state_dict(two.state_dict())
    every = one(torch.cat([views, Equalise()(views)])).unflatten(0, (4, 3)).mean(0)
    assert torch.allclose(four.eval()(images), every, atol=1e-5), "each view as it is, and with even lines"


def test_equalising_spreads_strokes_within_their_box() -> None:
    strokes = torch.zeros(2, 1, 32, 32)
    strokes[:, 0, 8:24, [5, 6, 9, 10, 21, 22]] = 1  # two columns each, with gaps of 2 and of 10
    strokes[1, 0, 8:24, 11:21] = 0.2  # fainter than ink
    even = Equalise()(strokes)[0, 0]
    columns = even.sum(0)
    assert even.sum(1).tolist() == pytest.approx([0.0] * 8 + [float(even[8].sum())] * 16 + [0.0] * 8)
    assert columns[5] > 8 < columns[22], "the outer strokes stay"
    assert columns[:5].sum() == columns[23:].sum() == 0
    # By hand: the middle of the second stroke is at 10 of 5 to 23, so at 5/18 of the width. Of the density there are
    # (1/2 + 1/24) to its left by left edges, (1/2 - 1/8) by right ones: 0.458 on average, of which 0.3 are taken.
    middle = (columns[8:19] * (torch.arange(8, 19) + 0.5)).sum() / columns[8:19].sum()
    assert float(middle) == pytest.approx(5 + 18 * (0.7 * 5 / 18 + 0.3 * 0.458), abs=0.25)
    assert torch.allclose(Equalise()(strokes.mT), Equalise()(strokes).mT, atol=1e-6)
    one = strokes[:1].clone()
    one[..., 7:] = 0  # a single stroke has no neighbours
    assert torch.allclose(Equalise()(one), one, atol=1e-5)
    assert Equalise()(torch.zeros(1, 1, 32, 32)).sum() == 0


@pytest.mark.parametrize("option", [{"width": 6}, {"cells": 3}, {"entry": "lines"}])
def test_impossible_options_of_the_compact_network_are_told(option: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(option))}='?{next(iter(option.values()))}"):
        models.build("compact_hccr", 10, 32, option)
