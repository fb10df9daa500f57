"""The judge's network: a small batch-normalised CNN for images of any size from 32 pixels up."""

import math

from torch import Tensor, nn

ARCHITECTURE = "cnn64-1"  # change it when anything here or in training.py changes: cached judges are then retrained
FEATURES = 64
TRUNK_SIZE = 32  # px at which the trunk starts; larger images are halved down to it by extra strided convolutions
STEM_WIDTH = 16


class JudgeNetwork(nn.Module):
    """Strided convolutions, global average pooling to 64 features, a linear head; 121,000 parameters at 32 pixels.

    ``forward(images (N, C, H, W) in [0, 1])`` gives the features ``(N, 64)``; ``head(features)`` the logits ``(N, K)``.
    """

    def __init__(self, channels: int, size: int, num_classes: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        stem: list[nn.Module] = []
        inputs = channels
        for _ in range(max(0, math.ceil(math.log2(size / TRUNK_SIZE)))):
            stem.append(_block(inputs, STEM_WIDTH, stride=2))
            inputs = STEM_WIDTH
        self.trunk = nn.Sequential(
            *stem,
            _block(inputs, 32, stride=2),
            _block(32, 64, stride=2),
            _block(64, 64, stride=1),
            _block(64, 96, stride=2),
            _block(96, FEATURES, stride=1, kernel=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(FEATURES, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images * 2 - 1)


def _block(inputs: int, outputs: int, stride: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
