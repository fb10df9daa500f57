"""A judge: a frozen classifier known by the digest of its weights, and its one file on disk.

It never takes part in the training of what it judges, and figures under different digests are never compared.
"""

import json
from hashlib import sha256
from typing import Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from securegan.judges.network import ARCHITECTURE, JudgeNetwork
from securegan.judges.precision import full_float32

Task = Literal["labels", "rotation"]
ROTATIONS = 4  # quarter turns a judge of unlabelled data tells apart


class DamagedJudgeError(Exception):
    """A judge's file that does not hold what it says."""


class Judge(nn.Module):
    """Reads images ``(N, C, H, W)`` in ``[0, 1]``; frozen, always in evaluation mode and in float32.

    Gradients flow to the images, for attacks on what a generator shows.

    Attributes:
        num_classes: K, the classes of the data, or 4 quarter turns where it has no labels.
        task: ``labels``, or ``rotation`` where the data has none.
        accuracy: share of the validate split read rightly; nan where that split is empty.
        digest: sha256 of the weights, hex.
        feature_dim, num_logits: of :meth:`extract`. A rotation judge gives no logits there: how a picture is turned
            says nothing of its quality, so that there is no Inception Score of it.
        key: ``judge``, the extractor's part in ``quality/fid_judge``; another where the judge is of other data.
    """

    def __init__(self, network: JudgeNetwork, task: Task, accuracy: float) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).float().eval()
        self.num_classes = network.head.out_features
        self.num_logits = self.num_classes if task == "labels" else 0
        self.feature_dim = network.head.in_features
        self.key = "judge"
        self.task, self.accuracy = task, accuracy
        self.digest = weights_digest(network)

    def train(self, mode: bool = True) -> "Judge":
        """Stays in evaluation mode, whatever a parent module is put into."""
        return super().train(False)

    def features(self, images: Tensor) -> Tensor:
        """``(N, 64)`` float32, the penultimate layer."""
        with full_float32(images.device.type):
            return self.network(images.float())

    def logits(self, images: Tensor) -> Tensor:
        """``(N, K)`` float32."""
        return self._head(self.features(images))

    def forward(self, images: Tensor) -> Tensor:
        """The same as :meth:`logits`."""
        return self.logits(images)

    @torch.no_grad()
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, 64)`` and logits ``(N, num_logits)`` in one pass, without gradients."""
        features = self.features(images)
        return features, self._head(features) if self.num_logits else features.new_zeros(len(images), 0)

    def _head(self, features: Tensor) -> Tensor:
        with full_float32(features.device.type):
            return self.network.head(features)


def weights_digest(network: nn.Module) -> str:
    """Sha256, hex, of all tensors in the order of their names: names, shapes, types and bytes."""
    digest = sha256()
    for name, tensor in sorted(network.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name}\x1f{tuple(plain.shape)}\x1f{plain.dtype}\x1f".encode())
        digest.update(plain.numpy().tobytes())
    return digest.hexdigest()


def to_bytes(judge: Judge, size: int, channels: int) -> bytes:
    """The judge as one safetensors file, with what is needed to rebuild it and to notice damage."""
    about = {
        "architecture": ARCHITECTURE,
        "task": judge.task,
        "num_classes": judge.num_classes,
        "size": size,
        "channels": channels,
        "accuracy": judge.accuracy,
        "digest": judge.digest,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in judge.network.state_dict().items()}
    return save(tensors, metadata={"judge": json.dumps(about)})


def from_bytes(content: bytes) -> Judge:
    """The judge that :func:`to_bytes` wrote.

    Raises:
        DamagedJudgeError: where the file is of another kind, cut short, or its weights do not match their digest.
    """
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about = json.loads(header["__metadata__"]["judge"])
        if about["architecture"] != ARCHITECTURE or about["task"] not in get_args(Task):
            raise DamagedJudgeError(f"it holds the architecture {about['architecture']!r}")
        with torch.device("meta"):
            network = JudgeNetwork(about["channels"], about["size"], about["num_classes"])
        network.load_state_dict(tensors, assign=True)
        judge = Judge(network, about["task"], float(about["accuracy"]))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedJudgeError(f"it cannot be read ({type(error).__name__})") from error
    if judge.digest != about["digest"]:
        raise DamagedJudgeError("its weights do not match their digest")
    return judge
