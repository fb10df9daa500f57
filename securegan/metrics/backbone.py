"""Any torchvision classifier as an extractor: features are what enters its last linear layer, logits what leaves it.

Weights come from a file alone: safetensors, or a state dict saved by torch, read without running code. Images are
rounded to 8 bits, repeated to three channels where grey, resized whole (never cropped: a generated image fills its
frame) to the side that torchvision's own weights of the network expect, with their interpolation and anti-aliasing, and
normalised by their mean and deviation. The network's name ends the keys of its scores, as in ``fid_resnet18``.
"""

import io
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from securegan.errors import UserError, near_match
from securegan.judges.precision import full_float32

REFUSED = ("googlenet", "inception_v3")  # auxiliary heads; Inception's name is kept for the reference network


class Backbone(nn.Module):
    """A frozen classifier that satisfies :class:`securegan.metrics.quality.FeatureExtractor`.

    Attributes:
        key: the network's name.
        digest: sha256 of the weights file, hex.
        feature_dim, num_logits: of :meth:`extract`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        key: str,
        digest: str,
        *,
        side: int,
        interpolation: str,
        mean: list[float],
        std: list[float],
    ) -> None:
        """Args: side: in pixels; interpolation: ``bilinear`` or ``bicubic``; mean, std: of three channels."""
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.key, self.digest, self.side, self.interpolation = key, digest, side, interpolation
        head = self.network.get_submodule(head_of(network))
        assert isinstance(head, nn.Linear)
        self.head = [head]  # in a list, not to be registered twice
        self.feature_dim, self.num_logits = head.in_features, head.out_features
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> "Backbone":
        """Stays in evaluation mode, whatever a parent module is put into."""
        return super().train(False)

    def prepared(self, images: Tensor) -> Tensor:
        """``(N, 3, side, side)`` as the network reads them, of images ``(N, 1 or 3, H, W)`` in ``[0, 1]``."""
        if images.shape[1] not in (1, 3):
            raise UserError(f"{self.key} reads images of 1 or 3 channels, and these have {images.shape[1]}.")
        pixels = images.float().mul(255).round().clamp(0, 255).div(255).expand(-1, 3, -1, -1)
        if pixels.shape[2:] != (self.side, self.side):
            pixels = F.interpolate(pixels, size=(self.side, self.side), mode=self.interpolation, antialias=True)
        return (pixels.clamp(0, 1) - self.mean) / self.std  # bicubic overshoots

    @torch.no_grad()
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, feature_dim)`` and logits ``(N, num_logits)``, float32, of ``(N, 1 or 3, H, W)`` images."""
        entered: list[Tensor] = []
        hook = self.head[0].register_forward_pre_hook(lambda _, given: entered.append(given[0]))
        try:
            with full_float32(images.device.type):
                logits = self.network(self.prepared(images))
        finally:
            hook.remove()
        return entered[0], logits


def head_of(network: nn.Module) -> str:
    """The name of the last linear layer."""
    return [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)][-1]


def load_backbone(name: str, path: Path) -> Backbone:
    """Torchvision's network ``name`` with the weights at ``path``, on the CPU; as many classes as they have.

    Raises:
        UserError: where torchvision has no such classifier, or the file does not hold its weights.
    """
    from torchvision.models import get_model, get_model_weights  # here: few runs need it

    if name not in (known := classifiers()):
        raise UserError(
            f"torchvision:{name} is not a classifier that can score: expected one of {', '.join(known)}."
            f"{near_match(name, known)}"
        )
    content, state = _read(name, path)
    try:
        with torch.device("meta"):
            network = get_model(name, weights=None)
            classes = len(state[f"{head_of(network)}.weight"])
            network = get_model(name, weights=None, num_classes=classes)
        network.load_state_dict(state, assign=True)
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"'{path}' does not hold weights of torchvision's {name}.") from error
    expected = get_model_weights(name).DEFAULT.transforms()
    return Backbone(
        network.float(),
        name,
        sha256(content).hexdigest(),
        side=expected.crop_size[0],
        interpolation=expected.interpolation.value,
        mean=list(expected.mean),
        std=list(expected.std),
    )


def classifiers() -> list[str]:
    """Torchvision's classifiers that end in a linear layer."""
    from torchvision import models

    named = [name for name in models.list_models(module=models) if name not in REFUSED]
    return [name for name in named if not name.startswith("squeezenet")]  # which ends in a convolution


def _read(name: str, path: Path) -> tuple[bytes, dict[str, Tensor]]:
    """A weights file's bytes and tensors."""
    try:
        content = path.expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"the weights of {name}, '{path}', cannot be read: {error.strerror}.") from error
    try:
        if path.suffix == ".safetensors":
            return content, load(content)
        return content, dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except SafetensorError as error:
        raise UserError(f"'{path}' is not a safetensors file, or is damaged.") from error
    except Exception as error:  # torch.load raises a dozen kinds for a file of another sort
        raise UserError(f"'{path}' does not hold a state dict that can be read without running code.") from error
