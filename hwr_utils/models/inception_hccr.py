"""The light Inception network for handwritten Chinese characters, after K. Kim.

He names what it is made of: four of GoogLeNet's Inception modules (Szegedy et al., CVPR 2015) instead of nine, no
hidden dense layer, global average pooling and a classifier of 3,755 outputs, for one channel of 56x56 pixels, at
3.23 MB after quantization. The widths are not in his text. Those here are the study's: as wide as that size allows,
and growing as the map shrinks, as GoogLeNet's do. Batch normalisation (Ioffe and Szegedy, ICML 2015) after every
convolution is the study's choice, too.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# outputs of each module's branches: 1x1; 3x3 and the 1x1 before it; 5x5 and the 1x1 before it; 1x1 after pooling
MODULES = (
    (32, 48, 64, 8, 16, 16),
    (64, 64, 128, 16, 32, 32),
    (96, 80, 160, 16, 48, 48),
    (144, 120, 256, 24, 72, 72),
)


class ConvUnit(nn.Sequential):
    """A convolution that keeps the map's size, batch normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )


class Inception(nn.Module):
    """GoogLeNet's module: four branches over a map of `inputs` channels, whose outputs are joined; see `MODULES`."""

    def __init__(
        self, inputs: int, one: int, reduce_three: int, three: int, reduce_five: int, five: int, pooled: int
    ) -> None:
        super().__init__()
        self.one = ConvUnit(inputs, one, 1)
        self.three = nn.Sequential(ConvUnit(inputs, reduce_three, 1), ConvUnit(reduce_three, three, 3))
        self.five = nn.Sequential(ConvUnit(inputs, reduce_five, 1), ConvUnit(reduce_five, five, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), ConvUnit(inputs, pooled, 1))
        self.channels = one + three + five + pooled

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, channels, H, W)."""
        return torch.cat([branch(features) for branch in (self.one, self.three, self.five, self.pooled)], dim=1)


class InceptionHCCR(nn.Module):
    """A stem of two convolutions, four Inception modules, global average pooling, a linear classifier.

    At 56 pixels a side the modules work on 28x28, 14x14, 14x14 and 7x7 positions; another multiple of 8 works as well.
    """

    def __init__(self, n_classes: int, image_size: int = 56) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvUnit(1, 32, 3), nn.MaxPool2d(2), ConvUnit(32, 64, 3))
        channels, modules = 64, []
        for widths in MODULES:
            modules.append(Inception(channels, *widths))
            channels = modules[-1].channels
        self.module1, self.module2, self.module3, self.module4 = modules
        self.classifier = nn.Linear(channels, n_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 1, image_size, image_size) float images in 0..1 to (N, n_classes) logits."""
        features = F.max_pool2d(self.module1(self.stem(images)), 2)
        features = F.max_pool2d(self.module3(self.module2(features)), 2)
        logits: Tensor = self.classifier(self.module4(features).mean(dim=(2, 3)))
        return logits
