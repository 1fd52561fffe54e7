"""ResNet-50 (He et al., CVPR 2016) as torchvision defines it, for one gray channel.

Song, Si and Kim give it inputs of 224 x 224 pixels and three channels, and do not say what these hold. The study takes
them as three times the gray image. A convolution over three equal channels is the convolution of one of them with the
kernel summed over its input channels, so the network here takes the one channel: the same function of the same
parameters, at a third of the input.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck, ResNet

from hwr_utils.errors import InputError


class EqualChannels(nn.Conv2d):
    """A convolution over channels that are all equal, given one of them; its parameters are those of the whole."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, 1, H, W) to what `nn.Conv2d` makes of that channel repeated `in_channels` times."""
        return self._conv_forward(input, self.weight.sum(dim=1, keepdim=True), self.bias)


class SmallMaps(nn.Conv2d):
    """A convolution that training computes as a matrix product if its output is one pixel, as in layer4 at 32 pixels.

    The function is the same. Of a 3x3 kernel only the part on the map counts, and the rest only ever sees padding:
    an epoch at 32 pixels takes about a quarter less on a CPU.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to what `nn.Conv2d` makes of it."""
        size, padding, stride = self.kernel_size[0], int(self.padding[0]), self.stride[0]
        if not self.training or max(input.shape[2:]) + 2 * padding - size >= stride:
            return super().forward(input)
        window = input[:, :, : size - padding, : size - padding]
        height, width = window.shape[2:]
        kernel = self.weight[:, :, padding : padding + height, padding : padding + width]
        rows, columns = (part.permute(0, 2, 3, 1).flatten(1) for part in (window, kernel))
        return F.linear(rows, columns)[:, :, None, None]


class ResNet50(ResNet):  # type: ignore[misc]  # torchvision comes without types
    """Torchvision's `resnet50(weights=None)`: its layers, its initialisation, and its names of parameters.

    The last map is 32 times smaller than the image: 7x7 at the published 224 pixels. With "global" pooling its mean is
    taken, as AvgPool(7, stride 4) gives it there. "avg4" is AvgPool(4, stride 4), which there sees the top left 16 of
    the 49 positions. Song, Si and Kim give no kernel.

    Raises an InputError where `pooling` is unknown, or "avg4" would not leave one value a channel.
    """

    def __init__(self, n_classes: int, image_size: int = 224, pooling: str = "global") -> None:
        if pooling not in ("global", "avg4"):
            raise InputError(f"pooling={pooling!r} is unknown, expected global or avg4.")
        side = -(-image_size // 32)
        if pooling == "avg4" and side not in range(4, 8):
            raise InputError(
                f"pooling=avg4 needs a last feature map of 4 to 7 positions a side, found {side} with "
                f"image_size={image_size}. Use an image_size from 97 to 224, or pooling=global."
            )
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=n_classes)
        whole: nn.Conv2d = self.conv1  # type: ignore[has-type]
        self.conv1 = EqualChannels(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.conv1.weight = whole.weight  # initialised by torchvision, which looked for plain convolutions
        for module in self.layer4.modules():
            if isinstance(module, nn.Conv2d):
                module.__class__ = SmallMaps  # torchvision takes no other kind; the weights stay
        if pooling == "avg4":
            self.avgpool: nn.Module = nn.AvgPool2d(kernel_size=4, stride=4)
