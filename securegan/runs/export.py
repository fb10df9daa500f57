"""A run's trained generator as a folder that others can use: its weights, config.json and a model card.

The generator takes codes ``z (N, latent_dim)`` of the standard normal distribution and, if conditional, classes
``y (N,)`` int64; it gives images ``(N, C, H, W)`` in ``[0, 1]``. README.md is written last, but for the signed manifest
where one is asked for: a folder without it is not complete. Only a TorchScript file holds pickled data; safetensors and
ONNX files hold none.
"""

import copy
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import securegan
from securegan.attacks.shield import shielded
from securegan.configuration.allowlist import build, resolve
from securegan.data.batch import DataSpec
from securegan.errors import UserError
from securegan.models.base import GenerativeModule
from securegan.runs.atomic import require_empty, write_atomically, write_json
from securegan.runs.folder import RunFolder
from securegan.runs.model_card import check_license, model_card
from securegan.runs.sampling import load_watched
from securegan.security.provenance.directory import MANIFEST, copy_verified, sign_directory
from securegan.security.provenance.files import digest_file
from securegan.security.provenance.requirement import required
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.statement import DirectoryOrigin
from securegan.security.provenance.trust import Trust

Format = Literal["safetensors", "onnx", "torchscript"]
FORMATS: tuple[Format, ...] = get_args(Format)
FILES: dict[Format, str] = {
    "safetensors": "generator.safetensors",
    "onnx": "generator.onnx",
    "torchscript": "generator.pt",
}
CONFIG, CARD = "config.json", "README.md"
BATCHES = (1, 2, 7, 33)  # sizes at which an exported generator must agree with the run's
TOLERANCE = 1e-5  # of a pixel in [0, 1]
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
Network = Callable[..., Tensor]
Inputs = tuple[Tensor, ...]


def export_generator(
    run: Path,
    out: Path,
    form: Format,
    *,
    averaged: bool = True,
    which: str = "best",
    license: str | None = None,
    signer: Signer | None = None,
    trust: Trust | None = None,
) -> str:
    """Write the generator of the run in ``run`` to the new or empty folder ``out``; gives the weights' sha256.

    Args:
        run: a run folder; its data are not needed.
        out: of the export.
        form: of the weights file.
        averaged: the moving average, which every figure is about; otherwise the weights as trained.
        which: checkpoint, ``best`` or ``last``.
        license: its identifier for the model card; None says there that one must be chosen.
        signer: signs a manifest of all the files, for whoever loads nothing else.
        trust: who must have signed the run's checkpoint; None asks nobody.

    Raises:
        UserError: where the run or the folder cannot be used, a package is missing, or the written generator's images
            differ from the run's by more than 1e-5, or ``license`` is not an identifier.
    """
    check_license(license)
    if form == "onnx":
        _require_onnx()
    watched = load_watched(run, which, trust)
    module, folder = watched.module, watched.folder
    epoch = int(watched.entry["epoch"])
    found = out.exists()
    require_empty(out, "--out")
    weights = out / FILES[form]
    try:
        _write_weights(module, averaged, form, weights)
        config = _describe(module, folder, form, weights, averaged=averaged, which=which, epoch=epoch)
        write_json(out / CONFIG, config)
        card = model_card(config, folder.results, folder.rows, license)
        write_atomically(out / CARD, lambda temporary: temporary.write_text(card))
        if signer is not None:
            about = config["weights"]
            sign_directory(out, signer, DirectoryOrigin(holds="checkpoint", model=about["sha256"], seed=config["seed"]))
    except BaseException:  # an interrupt too leaves the folder as it was found
        for name in (weights.name, CONFIG, CARD, MANIFEST):
            with suppress(OSError):
                (out / name).unlink(missing_ok=True)
        if not found:
            with suppress(OSError):
                out.rmdir()
        raise
    return str(config["weights"]["sha256"])


def load_generator(folder: Path | str, trust: Trust | None = None) -> nn.Module:
    """The generator of a folder that ``securegan export --format safetensors`` wrote, frozen, on the CPU.

    ``generator(z, y)``, without classes ``generator(z)``: the images of the run's own generator, bit for bit.

    Args: trust: who must have signed every file of the folder; what is loaded is a copy made while it was checked. None
    asks for nobody but whom the process' environment names.

    Raises:
        UserError: where the folder holds no such export, or a damaged one; PolicyError where it is not signed so.
    """
    trust = trust or required()
    if trust is None:
        return _load(Path(folder))
    with tempfile.TemporaryDirectory() as place:
        copy_verified(Path(folder), Path(place) / "copy", trust, "checkpoint")
        return _load(Path(place) / "copy")


def _load(folder: Path) -> nn.Module:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text())
        about, data = config["weights"], config["data"]
        if about["format"] != "safetensors":
            raise UserError(f"{folder} holds an export as {about['format']}: only safetensors are loaded here.")
        weights, expected, averaged = path.parent / FILES["safetensors"], about["sha256"], bool(about["averaged"])
        spec = DataSpec.from_json(data)
        target, arguments, seed = config["target"], dict(config["arguments"]), int(config["seed"])
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): expected an exported generator.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): export the generator anew.") from error
    if not weights.is_file() or digest_file(weights) != expected:
        raise UserError(f"{weights} is missing or damaged (its checksum differs): export the generator anew.")
    kind = resolve(target)
    if not (isinstance(kind, type) and issubclass(kind, GenerativeModule)):
        raise UserError(f"{path} is damaged ({target} is not a generative model): export the generator anew.")
    module: GenerativeModule = build({"_target_": target, **arguments}, spec, seed)
    return _filled(module.generator_network(averaged), weights)


def _filled(network: nn.Module, weights: Path) -> nn.Module:
    """``network`` with the tensors of a safetensors file, frozen and in evaluation mode."""
    try:
        network.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{weights} does not hold the weights of this generator ({reason}).") from error
    return network.requires_grad_(False).eval()


def _write_weights(module: GenerativeModule, averaged: bool, form: Format, path: Path) -> None:
    """The weights file, which gets its name once its images agree with those of ``module``."""
    network = copy.deepcopy(module.generator_network(averaged)).requires_grad_(False).eval()
    save = _writer(network, form, _inputs(module, 2))

    def write(temporary: Path) -> None:
        save(temporary)
        _check(module, averaged, _reader(network, form, temporary), form)

    write_atomically(path, write)


def _inputs(module: GenerativeModule, n: int) -> Inputs:
    """``n`` codes and, if conditional, classes: the arguments of an exported generator."""
    z, y = module.latents(n, "export", n)
    return (z,) if y is None else (z, y)


def _writer(network: nn.Module, form: Format, example: Inputs) -> Callable[[Path], object]:
    """What writes ``network`` to a file in a format."""
    if form == "safetensors":
        tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        return lambda path: save_file(tensors, path)
    if form == "torchscript":
        with _quiet():
            traced = torch.jit.trace(network, example, check_trace=False)  # _check does that, on batches of other sizes

        def save(path: Path) -> None:
            with _quiet():
                torch.jit.save(traced, path)

        return save
    names = ["z", "y"][: len(example)]
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.onnx.export(
            network,
            example,
            input_names=names,
            output_names=["images"],
            dynamic_shapes=tuple({0: batch} for _ in example),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return lambda path: program.save(path, external_data=False)


def _reader(network: nn.Module, form: Format, path: Path) -> Network:
    """The generator as a user of the file will have it."""
    if form == "safetensors":
        return _filled(copy.deepcopy(network), path)
    if form == "torchscript":
        with _quiet():
            loaded: Network = torch.jit.load(path)
        return loaded
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [wanted.name for wanted in session.get_inputs()]
    return lambda *given: torch.from_numpy(
        session.run(None, {name: value.numpy() for name, value in zip(names, given, strict=True)})[0]
    )


def _check(module: GenerativeModule, averaged: bool, candidate: Network, form: Format) -> None:
    """Raises UserError where images of ``candidate`` are not those of ``module``."""
    for n in BATCHES:
        given = _inputs(module, n)
        z, y = given[0], given[1] if len(given) > 1 else None
        with shielded(module.victims()), torch.no_grad():
            expected = module.generate(z, y) if averaged else module.generate_raw(z, y)
            found = candidate(*given)
        if found.shape != expected.shape or not (found - expected).abs().max() <= TOLERANCE:
            raise UserError(
                f"the generator cannot be exported as {form}: for {n} codes its images are not those of the run's "
                "generator; try another --format."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notes that TorchScript gives way to torch.export, whose archives need its own release to load.

    And without the one that says of the batch, which codes and classes share, that it is named once.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="# The axis name: batch", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
        yield


def _require_onnx() -> None:
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"--format=onnx needs {', '.join(missing)}, not installed here: pip install 'securegan[onnx]'.")


def _describe(
    module: GenerativeModule, folder: RunFolder, form: Format, weights: Path, *, averaged: bool, which: str, epoch: int
) -> dict[str, Any]:
    """config.json: what rebuilds the network, what goes in and comes out, and what the weights are of."""
    config, spec = folder.config(), module.spec
    classes = spec.num_classes if module.conditional else 0
    model: Any = OmegaConf.to_container(config.model, resolve=True)
    given: dict[str, Any] = {"z": {"shape": ["N", module.latent_dim], "dtype": "float32", "of": "standard normal"}}
    if classes:
        given["y"] = {"shape": ["N"], "dtype": "int64", "of": f"0 to {classes - 1}, see data.class_names"}
    return {
        "securegan": securegan.__version__,
        "torch": torch.__version__,
        "target": model.pop("_target_"),
        "arguments": model,
        "seed": int(config.seed),
        "latent_dim": module.latent_dim,
        "num_classes": classes,
        "input": given,
        "output": {"shape": ["N", spec.channels, spec.size, spec.size], "dtype": "float32", "range": [0, 1]},
        "weights": {
            "file": weights.name,
            "format": form,
            "sha256": digest_file(weights),
            "averaged": averaged,
            "checkpoint": which,
            "epoch": epoch,
            "images_seen": int(module.images_seen),
        },
        "data": asdict(spec),
    }
