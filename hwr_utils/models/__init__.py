"""The networks, a file each, built by name; and what all of them share: input, answers and the count of their work."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwr_utils.models.compact_hccr import CompactHCCR
from hwr_utils.models.inception_hccr import InceptionHCCR
from hwr_utils.models.plain_hccr import PlainHCCR
from hwr_utils.models.simple_cnn import SimpleCNN

TOP_K = 10  # classes that are kept of each answer
CHUNK = 10_000  # images whose logits are held at a time
_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "compact_cnn": CompactHCCR,  # smaller, see recipes.MODEL_OPTIONS
    "compact_hccr": CompactHCCR,
    "inception_hccr": InceptionHCCR,
    "plain_hccr": PlainHCCR,
    "simple_cnn": SimpleCNN,
}


def build(architecture: str, n_classes: int, image_size: int, options: Mapping[str, Any]) -> nn.Module:
    """Build a network for square images of one channel; its weights come from torch's global random generator.

    The architectures and their options are those of `recipes.MODEL_OPTIONS`. A network has a logit for each class, and
    `image_size` pixels a side as input. Raises an InputError for an option that it does not have at this size.
    """
    if architecture == "resnet50":
        from hwr_utils.models.resnet50 import ResNet50  # torchvision doubles the time of the import

        return ResNet50(n_classes, image_size, **options)
    return _NETWORKS[architecture](n_classes, image_size, **options)


def to_input(images: Tensor, image_size: int) -> Tensor:
    """Turn (N, H, W) uint8 images, white ink on black, into what every network of the study takes.

    It is (N, 1, image_size, image_size) float32 in 0..1, channels last. Other sizes are resized bilinearly.
    """
    batch = images.unsqueeze(1).to(torch.float32).div_(255.0)
    if batch.shape[-2:] != (image_size, image_size):
        batch = F.interpolate(batch, size=(image_size, image_size), mode="bilinear", align_corners=False)
    return batch.contiguous(memory_format=torch.channels_last)


def predict_logits(model: nn.Module, images: Tensor, image_size: int) -> Tensor:
    """Return the (N, C) float32 logits of a network for (N, H, W) uint8 images, on its and their device.

    There are no gradients, and the network is left in evaluation mode.
    """
    model.eval()
    # a CPU's caches hold the feature maps of 100 images: at 56 pixels, 500 at a time took 1.6 times as long
    batch_size = 500 if images.device.type == "cuda" else 100
    with torch.inference_mode():
        return torch.cat([model(to_input(batch, image_size)).float() for batch in images.split(batch_size)])


class Predictions(NamedTuple):
    """What is kept of a network's answers to N images: with 3,755 classes, all the logits would be gigabytes."""

    classes: Tensor  # (N, k) int64, best first
    scores: Tensor  # (N, k) float32, the probabilities of these, by softmax over all C classes
    losses: Tensor  # (N,) float32, cross-entropy in nats


def rank(logits: Tensor, labels: Tensor) -> Predictions:
    """Rank the `TOP_K` likeliest classes of (N, C) logits, or all C, given the (N,) int64 true classes."""
    scores, classes = logits.softmax(dim=1).topk(min(TOP_K, logits.shape[1]), dim=1)
    return Predictions(classes, scores, F.cross_entropy(logits, labels, reduction="none"))


def predict(model: nn.Module, images: Tensor, labels: Tensor, image_size: int) -> Predictions:
    """Run a network over (N, H, W) uint8 images, given their (N,) int64 true classes, all on its device."""
    chunks = zip(images.split(CHUNK), labels.split(CHUNK), strict=True)
    parts = [rank(predict_logits(model, some, image_size), truth) for some, truth in chunks]
    return Predictions(*map(torch.cat, zip(*parts, strict=True)))


@torch.no_grad()
def layer_table(model: nn.Module, image_size: int) -> pd.DataFrame:
    """Count parameters and multiply-accumulates layer by layer, by a pass over one image of that side in pixels.

    The multiply-accumulates of a convolution are output positions x kernel area x input channels per group x output
    channels, with the input channels that it is given; those of a linear layer are inputs x outputs. Biases,
    activations and pooling are not counted, as is usual. The network is left as it was. Returns a row for each layer
    with weights: layer (its name), kind, output_shape (without the batch), parameters, macs (of one image).
    """
    rows: list[dict[str, Any]] = []

    def count(name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        macs = layer.weight.numel() if isinstance(layer, nn.Linear) else 0
        if isinstance(layer, nn.Conv2d):
            # the output may have several rows, as of a network that looks at its one image twice
            macs = output.numel() * layer.weight[0, 0].numel() * inputs[0].shape[1] // layer.groups
        row = {"layer": name, "kind": type(layer).__name__, "output_shape": tuple(output.shape[1:])}
        parameters = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
        rows.append(row | {"parameters": parameters, "macs": macs})

    model = copy.deepcopy(model).eval()
    for name, layer in model.named_modules():
        if list(layer.parameters(recurse=False)):
            layer.register_forward_hook(partial(count, name))
    model(torch.zeros(1, 1, image_size, image_size, device=next(model.parameters()).device))
    return pd.DataFrame(rows)
