"""The reference Inception network of published FID and IS figures, as torch-fidelity runs it.

Images are rounded to 8 bits and resized to 299 pixels by torch-fidelity's copy of TensorFlow 1's bilinear resizing,
inside its extractor; the Fréchet distance uses the 2048 pooled features and the Inception Score the 1008 logits
without bias, in float32. Only the 2015-12-05 weights may call a figure ``fid_inception``; any other weights put the
first eight digits of their digest into the name, and an earlier stage of the network its number of features, of which
there is no Inception Score.
"""

import io
import os
from contextlib import suppress
from hashlib import file_digest, sha256
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

import torch
from torch import Tensor, nn

from securegan.errors import UserError
from securegan.judges.precision import full_float32

REFERENCE_PREFIX = "6726825d"  # first eight hex digits of the weights' sha256, which end the published file's name
REFERENCE_FILE = f"weights-inception-2015-12-05-{REFERENCE_PREFIX}.pth"
REFERENCE_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{REFERENCE_FILE}"
LOGITS = "logits_unbiased"
Stage = Literal[64, 192, 768, 2048]  # features after the first pooling, the second, before the last blocks, at the end
WHOLE: Stage = 2048
DOWNLOAD_TIMEOUT = 30  # seconds without an answer
BLOCK = 2**20  # bytes read at a time
CPU_FORMAT = torch.channels_last  # of the weights: on two cores about 1.6 times as fast as the other
CPU_PART = 16  # images of a forward on a CPU: 299-pixel feature maps of more of them leave its caches


class Inception(nn.Module):
    """A frozen Inception network that satisfies :class:`securegan.metrics.quality.FeatureExtractor`.

    Attributes:
        digest: sha256 of the weights file, hex.
        key: ``inception`` for the reference weights, ``inception_<first 8 of digest>`` for any other; of an earlier
            stage followed by its number of features.
        feature_dim, num_logits: of :meth:`extract`.
    """

    def __init__(self, network: nn.Module, digest: str, stage: Stage = WHOLE) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.digest = digest
        self._format: torch.memory_format | None = None  # that the network was put into
        self.feature_dim, self.num_logits = stage, 1008 if stage == WHOLE else 0
        self.key = "inception" if digest.startswith(REFERENCE_PREFIX) else f"inception_{digest[:8]}"
        if stage != WHOLE:
            self.key += f"_{stage}"

    def train(self, mode: bool = True) -> "Inception":
        """Stays in evaluation mode, whatever a parent module is put into."""
        return super().train(False)

    @torch.no_grad()
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, feature_dim)``, logits ``(N, num_logits)``, float32, of ``(N, 1 or 3, H, W)`` images."""
        if images.shape[1] not in (1, 3):
            raise UserError(f"Inception reads images of 1 or 3 channels, and these have {images.shape[1]}.")
        with full_float32(images.device.type):
            pixels = images.float().mul(255).round().clamp(0, 255).to(torch.uint8)
            on_cpu = images.device.type == "cpu"
            self._put_into(CPU_FORMAT if on_cpu else torch.contiguous_format)
            parts = pixels.expand(-1, 3, -1, -1).split(CPU_PART if on_cpu else max(1, len(pixels)))
            found = [torch.cat(outputs) for outputs in zip(*map(self.network, parts), strict=True)]
        return found[0], found[1] if self.num_logits else found[0].new_zeros(len(images), 0)

    def _put_into(self, memory_format: torch.memory_format) -> None:
        if self._format != memory_format:
            self.network.to(memory_format=memory_format)
            self._format = memory_format


def load_inception(
    path: Path | str | None,
    cache_dir: Path,
    download: bool = False,
    device: torch.device | str = "cpu",
    stage: Stage = WHOLE,
) -> Inception:
    """The network with the weights at ``path``, or those kept in ``cache_dir``.

    Args:
        path: a weights file in torch-fidelity's format; None for the reference file in ``cache_dir``.
        cache_dir: where a downloaded reference file is kept.
        download: fetch the reference file into ``cache_dir`` where it is missing and no ``path`` is given.
        device: where the network runs.
        stage: after which to stop, by its number of features.

    Raises:
        UserError: where there is no such file, it holds something else, or the download fails.
    """
    if path is not None:
        path = Path(path)
    else:
        path = cache_dir / REFERENCE_FILE
        if not path.is_file():
            if not download:
                raise UserError(
                    f"there are no Inception weights at '{path}'; give the path of the file, or allow its download."
                )
            _download(path)
    content = _read(path)
    digest = sha256(content).hexdigest()
    if path.name == REFERENCE_FILE and not digest.startswith(REFERENCE_PREFIX):
        raise UserError(
            f"the Inception weights '{path}' are damaged: their sha256 begins with {digest[:8]}, "
            f"not {REFERENCE_PREFIX}; delete the file and get it anew."
        )
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        network = _build(state, stage)
    except Exception as error:  # torch.load and load_state_dict raise a dozen kinds for a file of another sort
        raise UserError(f"'{path}' does not hold Inception weights as torch-fidelity publishes them.") from error
    return Inception(network.to(device), digest, stage)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"the Inception weights '{path}' cannot be read: {error.strerror}.") from error


def _build(state: dict[str, Tensor], stage: Stage) -> nn.Module:
    """Torch-fidelity's network with these weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # Its constructor unpickles whatever file it is given. It gets a stream written here, of the tensors that
    # `weights_only` let through; and the initial weights it draws must not move torch's global generator.
    stream = io.BytesIO()
    torch.save(dict(state), stream)
    stream.seek(0)
    with torch.random.fork_rng(devices=[]):
        wanted = [str(stage), LOGITS] if stage == WHOLE else [str(stage)]
        return FeatureExtractorInceptionV3("inception", wanted, feature_extractor_weights_path=stream)


def _download(target: Path) -> None:
    """Fetch the reference weights; ``target`` appears only when complete and of the right digest."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urlopen(REFERENCE_URL, timeout=DOWNLOAD_TIMEOUT) as answer, partial.open("wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
        with partial.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        if not digest.startswith(REFERENCE_PREFIX):
            raise UserError(
                f"the Inception weights from {REFERENCE_URL} arrived damaged: sha256 {digest[:8]}, "
                f"not {REFERENCE_PREFIX}."
            )
        os.replace(partial, target)
    except (OSError, HTTPException) as error:  # urllib's and socket's errors are OSErrors
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise UserError(
            f"the Inception weights could not be downloaded from {REFERENCE_URL} ({reason}); "
            "fetch the file elsewhere and give its path."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
