"""The simple network: two convolutions and two dense layers.

Song, Si and Kim say no more of theirs than that. Keras' classic `mnist_cnn` example fits the description, and the
authors of KMNIST publish it as their baseline, so the study takes its widths. That is an assumption, not a fact.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class SimpleCNN(nn.Module):
    """Convolve (3x3, 32), convolve (3x3, 64), pool by two, then a dense layer of 128 and the classifier.

    With `dropout` it has that of the example: 0.25 after pooling and 0.5 before the classifier.
    """

    def __init__(self, n_classes: int, image_size: int = 28, dropout: bool = False) -> None:
        super().__init__()
        side = (image_size - 4) // 2  # two unpadded 3x3 convolutions, then pooling by two
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3)
        self.dense = nn.Linear(64 * side * side, 128)
        self.classifier = nn.Linear(128, n_classes)
        self.dropout1 = nn.Dropout(0.25 if dropout else 0.0)
        self.dropout2 = nn.Dropout(0.5 if dropout else 0.0)
        for layer in (self.conv1, self.conv2, self.dense, self.classifier):
            nn.init.xavier_uniform_(layer.weight)  # Keras' default, not PyTorch's
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 1, image_size, image_size) float images in 0..1 to (N, n_classes) logits."""
        features = F.relu(self.conv1(images))
        # ReLU and the maximum may trade places; on the pooled quarter of the map ReLU costs a quarter of the time.
        features = F.relu(F.max_pool2d(self.conv2(features), 2))
        features = self.dropout1(features).flatten(1)
        features = self.dropout2(F.relu(self.dense(features)))
        return self.classifier(features)
