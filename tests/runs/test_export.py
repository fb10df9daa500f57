"""``securegan export``: the run's own images from the written file, and a card that says no more than is known."""

import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from securegan.configuration.allowlist import build
from securegan.configuration.compose import compose_checked
from securegan.data.batch import DataSpec
from securegan.errors import UserError
from securegan.models.base import GenerativeModule
from securegan.runs import export
from securegan.runs.atomic import write_json
from securegan.runs.checkpoints import save_weights
from securegan.runs.export import Format, export_generator, load_generator
from securegan.runs.folder import RunFolder
from securegan.runs.sampling import class_of, load_module
from securegan.security.provenance.files import digest_file

NARROW = [f"model.{part}_width=4" for part in ("generator", "discriminator", "class")]
QUALITY = {"quality/fid_judge": 3.25, "quality/class_accuracy_judge": 0.5}
TEST = {
    "epoch": 2,
    "split": "test",
    "metrics": {**QUALITY, "robustness/attack_success_label": 0.77},
    "n": {"quality/fid_judge": 640, "quality/class_accuracy_judge": 640},
    "interval": {"quality/class_accuracy_judge": [0.25, 0.75]},
}
PROTOCOL = {"data": {"splits": {"train": 1234, "test": 56}}, "quality": {"digest_judge": "ab" * 32, "n_real": 56}}


def a_run(path: Path, classes: int, model: str = "gan", *overrides: str) -> Path:
    """A run folder of an untrained model whose averaged weights and batch norms differ from the raw ones."""
    names = tuple(f"kind {i}" for i in range(classes))
    spec = DataSpec("pictures", 3, 32, classes, names, 8 / 255, "cd" * 16)
    widths = NARROW if model != "vae" else [f"model.{part}_width=4" for part in ("encoder", "decoder")]
    plain = ["model.latent_dim=6", "detector=none", "logger=none"]
    (config,) = compose_checked([f"model={model}", *widths, *plain, *overrides])
    folder = RunFolder.create(path, config)
    folder.write_spec(spec)
    module: GenerativeModule = build(config.model, spec, 0)
    module.count(7000)
    entries = {}
    for which, epoch in (("best", 2), ("last", 3)):
        for network, shift in ((module.generator_network(False), 0.02), (module.generator_network(True), 0.01)):
            for tensor in network.state_dict().values():
                if tensor.is_floating_point():
                    tensor.add_(shift)
        file = folder.checkpoints / f"epoch-{epoch:04d}.safetensors"
        file.parent.mkdir(exist_ok=True)
        weights = save_weights(module, file)
        entries[which] = {"file": f"epoch-{epoch:04d}.ckpt", "epoch": epoch, "sha256": "", "weights": weights}
    write_json(folder.checkpoints / "index.json", entries)
    row = {"epoch": 3, "images_seen": 7000, "split": "validate", "metrics": {"quality/fid_judge": 4.75}, "n": {}}
    folder.results = {"test": TEST, "protocol": PROTOCOL}
    folder.add_row(row)
    folder.release()
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("runs")
    return {
        "labelled": a_run(place / "labelled", 3),
        "unlabelled": a_run(place / "unlabelled", 0),
        "without classes": a_run(place / "without", 3, "vae", "model.conditional=false", "model.sampling=prior"),
    }


def with_packages(form: Format) -> None:
    if form == "onnx":
        for package in export.ONNX_PACKAGES:
            pytest.importorskip(package, reason="of the extra securegan[onnx]")


def inputs(classes: int, n: int = 5) -> tuple[torch.Tensor, ...]:
    z = torch.randn(n, 6, generator=torch.Generator().manual_seed(1))
    return (z, torch.arange(n) % classes) if classes else (z,)


@pytest.mark.parametrize("averaged", [True, False])
@pytest.mark.parametrize("kind", ["labelled", "unlabelled", "without classes"])
def test_safetensors_give_the_runs_images_bit_for_bit(
    runs: dict[str, Path], tmp_path: Path, kind: str, averaged: bool
) -> None:
    out = tmp_path / "out"
    digest = export_generator(runs[kind], out, "safetensors", averaged=averaged, which="last")
    module = load_module(runs[kind], "last").eval()
    given = inputs(module.spec.num_classes if module.conditional else 0)
    z, y = (*given, None)[:2]
    expected, other = module.generate(z, y), module.generate_raw(z, y)  # type: ignore[arg-type]
    if not averaged:
        expected, other = other, expected
    found = load_generator(out)(*given)
    assert torch.equal(found, expected) and not torch.equal(found, other)
    assert found.shape == (5, 3, 32, 32) and found.min() >= 0 and found.max() <= 1
    assert digest_file(out / "generator.safetensors") == digest
    assert load_file(out / "generator.safetensors").keys() == module.generator_network(averaged).state_dict().keys()
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "generator.safetensors"]
    shutil.copytree(out, tmp_path / "moved")
    assert torch.equal(load_generator(tmp_path / "moved")(*given), expected)


@pytest.mark.parametrize("kind", ["labelled", "unlabelled", "without classes"])
@pytest.mark.parametrize("form", ["safetensors", "torchscript", "onnx"])
def test_the_cards_lines_of_code_run(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, form: Format
) -> None:
    with_packages(form)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_generator(runs[kind], tmp_path / "out", form)
    monkeypatch.chdir(tmp_path / "out")
    card = Path("README.md").read_text()
    assert ("A class-conditional generator" in card) == ("y (N,)" in card) == (kind == "labelled")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    found: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of TorchScript
        exec(code, found)
    images = torch.as_tensor(found["images"])
    assert images.shape == (4, 3, 32, 32) and images.min() >= 0 and images.max() <= 1 and images.std() > 1e-3


def test_a_class_is_asked_for_only_where_there_are_some(runs: dict[str, Path]) -> None:
    assert class_of(load_module(runs["labelled"]), "kind 2") == 2
    for kind, reason in (("unlabelled", "have no classes"), ("without classes", "was trained without classes")):
        with pytest.raises(UserError, match=f"--class=1 is not possible: .* {reason}"):
            class_of(load_module(runs[kind]), "1")


def test_torchscript_needs_no_class_of_the_package_and_takes_any_batch(runs: dict[str, Path], tmp_path: Path) -> None:
    export_generator(runs["labelled"], tmp_path / "script", "torchscript")
    export_generator(runs["labelled"], tmp_path / "tensors", "safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        script = torch.jit.load(tmp_path / "script" / "generator.pt")
    for n in (1, 3, 50):
        torch.testing.assert_close(
            script(*inputs(3, n)), load_generator(tmp_path / "tensors")(*inputs(3, n)), atol=1e-5, rtol=0
        )
    with pytest.raises(UserError, match="holds an export as torchscript"):
        load_generator(tmp_path / "script")


def test_the_card_says_what_was_measured_of_these_weights_alone(runs: dict[str, Path], tmp_path: Path) -> None:
    def card(name: str, **settings: object) -> str:
        export_generator(runs["labelled"], tmp_path / name, "safetensors", **settings)  # type: ignore[arg-type]
        return (tmp_path / name / "README.md").read_text()

    best = card("best")
    front = yaml.safe_load(best.split("---")[1])
    assert front["license"] == "unknown" and "choose before you publish" in best
    for said in (
        "| `quality/fid_judge` | 3.25 | - | 640 | test |",
        "0.25 to 0.75",
        "ab" * 32,
        "cd" * 16,
        "train 1,234",
    ):
        assert said in best
    assert "`kind 2`" in best and "7,000 training images" in best and "attack_success_label" not in best
    assert digest_file(tmp_path / "best" / "generator.safetensors") in best
    last = card("last", which="last", license="mit")
    assert "4.75 | - | - | validate" in last and "3.25" not in last
    assert yaml.safe_load(last.split("---")[1])["license"] == "mit" and "choose before" not in last
    raw = card("raw", averaged=False)
    assert "None were measured of these very weights" in raw and "3.25" not in raw and "4.75" not in raw


def test_a_file_whose_images_differ_never_gets_its_name(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = export._reader
    monkeypatch.setattr(export, "_reader", lambda *given: lambda *codes: reader(*given)(*codes) + 2e-5)
    for form in ("safetensors", "torchscript"):
        with pytest.raises(UserError, match="its images are not those of the run's"):
            export_generator(runs["labelled"], tmp_path, form)
        assert not list(tmp_path.iterdir())


def test_mistakes_are_one_sentence_and_leave_nothing(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--license=my own is not an identifier"):
        export_generator(runs["labelled"], tmp_path / "new", "safetensors", license="my own")
    monkeypatch.setattr(export, "model_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_generator(runs["labelled"], tmp_path / "new", "safetensors")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(export, "ONNX_PACKAGES", ("torch", "no_such_package"))
    with pytest.raises(UserError, match=r"needs no_such_package, not installed here: pip install 'securegan\[onnx\]'"):
        export_generator(runs["labelled"], tmp_path, "onnx")
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="is not empty"):
        export_generator(runs["labelled"], tmp_path, "safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_damage_is_noticed_and_only_generative_models_are_built(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_generator(runs["labelled"], out, "safetensors")
    with pytest.raises(UserError, match="cannot be read"):
        load_generator(tmp_path)
    config = json.loads((out / "config.json").read_text())
    for target in ("securegan.runs.folder.environment", "securegan.data.digits.Digits", "os.system"):
        (out / "config.json").write_text(json.dumps({**config, "target": target}))
        with pytest.raises(UserError, match=target):
            load_generator(out)
    (out / "config.json").write_text(json.dumps({**config, "seed": None}))
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        load_generator(out)
    (out / "config.json").write_text(json.dumps(config))
    tensors = load_file(out / "generator.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, out / "generator.safetensors")
    with pytest.raises(UserError, match="checksum differs"):
        load_generator(out)


@pytest.mark.parametrize("form", ["safetensors", "torchscript", "onnx"])
@pytest.mark.parametrize(("model", "classes"), [("vae", 3), ("vae", 0), ("hybrid", 3), ("gan_strong", 3)])
def test_every_model_is_exported_with_what_its_samples_come_from(
    tmp_path: Path, model: str, classes: int, form: Format
) -> None:
    with_packages(form)
    run = a_run(tmp_path / "run", classes, model)
    export_generator(run, tmp_path / "out", form)  # compares images itself
    module = load_module(run)
    z, y = module.latents(5, "test")
    given = (z,) if y is None else (z, y)
    path = tmp_path / "out" / export.FILES[form]
    loaded = load_generator(tmp_path / "out") if form == "safetensors" else export._reader(module, form, path)
    assert torch.allclose(loaded(*given), module.generate(z, y), atol=1e-5)
    assert not torch.allclose(loaded(*given), module.generate_raw(z, y), atol=1e-5)
