"""K. Kim's network without what gives it its name: where his has an Inception module, this has one plain convolution.

The study made it to ask what the Inception modules are worth (book/plan.md, E4). Its 3x3 convolutions grow from one to
the next as the modules do. With their widths the two networks have the same number of parameters for 64 classes, to
within one per cent.
"""

from torch import nn

from hwr_utils.models.inception_hccr import ConvUnit, InceptionHCCR

WIDTHS = (64, 66, 134, 184, 282)  # channels: of the stem, and after each convolution


class PlainHCCR(InceptionHCCR):
    """A stem of two convolutions, four more, global average pooling, a linear classifier; see `InceptionHCCR`."""

    def __init__(self, n_classes: int, image_size: int = 56) -> None:
        super().__init__(n_classes, image_size)
        for number in range(1, 5):
            unit = ConvUnit(WIDTHS[number - 1], WIDTHS[number], 3)
            nn.init.kaiming_normal_(next(unit.parameters()), mode="fan_out", nonlinearity="relu")
            setattr(self, f"module{number}", unit)
        self.classifier = nn.Linear(WIDTHS[-1], n_classes)
