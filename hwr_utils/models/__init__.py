"""The networks, a file each, built by name; and what all of them share: input, answers and the count of their work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwr_utils.models.compact_hccr import CompactHCCR
from hwr_utils.models.inception_hccr import InceptionHCCR
from hwr_utils.models.resnet50 import ResNet50
from hwr_utils.models.simple_cnn import SimpleCNN

TOP_K = 10  # classes that are kept of each answer

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "compact_cnn": CompactHCCR,  # smaller, see recipes.MODEL_OPTIONS
    "compact_hccr": CompactHCCR,
    "inception_hccr": InceptionHCCR,
    "resnet50": ResNet50,
    "simple_cnn": SimpleCNN,
}


def build(architecture: str, n_classes: int, image_size: int, options: Mapping[str, Any]) -> nn.Module:
    """Build a network by its name; its weights come from torch's global random generator.

    Args:
        architecture: a key of `recipes.MODEL_OPTIONS`.
        n_classes: number of logits.
        image_size: side of the input in pixels.
        options: the architecture's options, as in `recipes.MODEL_OPTIONS`.

    Raises:
        InputError: an option that the architecture does not have at this size.
    """
    return _BUILDERS[architecture](n_classes=n_classes, image_size=image_size, **options)


def to_input(images: Tensor, image_size: int) -> Tensor:
    """Turn stored images into what every network of the study takes.

    Args:
        images: (N, H, W) uint8, white ink on black, on any device.
        image_size: side of the result in pixels; other sizes are resized bilinearly on the images' device.

    Returns:
        (N, 1, image_size, image_size) float32 in 0..1, in channels-last layout.
    """
    batch = images.unsqueeze(1).to(torch.float32).div_(255.0)
    if batch.shape[-2:] != (image_size, image_size):
        batch = F.interpolate(batch, size=(image_size, image_size), mode="bilinear", align_corners=False)
    return batch.contiguous(memory_format=torch.channels_last)


def predict_logits(model: nn.Module, images: Tensor, image_size: int, batch_size: int | None = None) -> Tensor:
    """Run a network over images without gradients.

    Args:
        model: any network of the study; put into evaluation mode and left there.
        images: (N, H, W) uint8 on the model's device.
        image_size: side of the network's input in pixels.
        batch_size: images at a time; None takes 500 on a GPU and 100 on a CPU, whose caches hold the maps of so many
            (at 56 pixels 500 at a time took 1.6 times as long).

    Returns:
        (N, C) float32 logits on the same device.
    """
    model.eval()
    batch_size = batch_size or (500 if images.device.type == "cuda" else 100)
    with torch.inference_mode():
        batches = [model(to_input(batch, image_size)).float() for batch in images.split(batch_size)]
    return torch.cat(batches)


@dataclass(frozen=True)
class Predictions:
    """What is kept of a network's answers to N images, of which all logits would be gigabytes at 3,755 classes.

    Attributes:
        classes: (N, k) int64, best first.
        scores: (N, k) float32, the probabilities of these, by softmax over all C classes.
        losses: (N,) float32, cross-entropy in nats.
    """

    classes: Tensor
    scores: Tensor
    losses: Tensor


def rank(logits: Tensor, labels: Tensor, k: int = TOP_K) -> Predictions:
    """Rank the classes of each image, best first.

    Args:
        logits: (N, C) float.
        labels: (N,) int64 true classes, on the same device.
        k: how many to keep; C where C is smaller.
    """
    scores, classes = logits.softmax(dim=1).topk(min(k, logits.shape[1]), dim=1)
    return Predictions(classes, scores, F.cross_entropy(logits, labels, reduction="none"))


@dataclass(frozen=True)
class LayerRow:
    """One layer with weights: its name, its output's shape without the batch, and its cost for one image."""

    layer: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int


def layer_table(model: nn.Module, image_size: int) -> list[LayerRow]:
    """Count parameters and multiply-accumulates layer by layer, from the module itself.

    A convolution's MACs are output positions x kernel area x input channels per group x output channels, with the
    input channels that it is given; a linear layer's are inputs x outputs. Biases, activations and pooling are not
    counted, as is usual.

    Args:
        model: any network of the study; its mode and weights are left as they are.
        image_size: side of the input in pixels.
    """
    rows: list[LayerRow] = []

    def count(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            parameters = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
            macs = 0
            if isinstance(layer, nn.Conv2d):
                area = layer.kernel_size[0] * layer.kernel_size[1]
                macs = output[0].numel() * area * inputs[0].shape[1] // layer.groups
            elif isinstance(layer, nn.Linear):
                macs = layer.weight.numel()
            rows.append(LayerRow(name, type(layer).__name__, tuple(output.shape[1:]), parameters, macs))

        return hook

    training = model.training
    hooks = [
        layer.register_forward_hook(count(name))
        for name, layer in model.named_modules()
        if any(True for _ in layer.parameters(recurse=False))
    ]
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 1, image_size, image_size, device=device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return rows
