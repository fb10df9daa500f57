"""Scores in the features of networks that a configuration names."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from securegan.configuration.compose import compose_checked
from securegan.configuration.paths import with_absolute_paths
from securegan.data.batch import DataSpec
from securegan.data.digits import Digits
from securegan.errors import ConfigError, UserError
from securegan.evaluation.extractors import build_extractors
from securegan.evaluation.protocol import Protocol
from securegan.evaluation.quality import Quality
from securegan.judges.cache import judge_path, load_or_train_judge
from securegan.judges.judge import Judge, Task, to_bytes
from securegan.judges.network import JudgeNetwork
from securegan.models.gan.lightning_model import GAN
from securegan.reports.glossary import describe

SMALL = "shufflenet_v2_x0_5"
SPEC = DataSpec("x", 1, 32, 10, tuple("0123456789"), 0.1, "")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A torchvision network with random weights, and a judge of other data: both as a configuration names them."""
    save_file(get_model(SMALL, num_classes=5).state_dict(), weights := tmp_path / "small.safetensors")
    (judge := tmp_path / "judge.safetensors").write_bytes(to_bytes(other_judge(1, 32), 32, 1))
    return f"torchvision:{SMALL}:{weights}", f"judge:{judge}"


def other_judge(channels: int, size: int, task: Task = "labels") -> Judge:
    return Judge(JudgeNetwork(channels, size, 4), task, 0.5)


def test_each_extractor_scores_under_its_own_name(files: tuple[str, str], tmp_path: Path) -> None:
    data = Digits(tmp_path, 0, max_images=300)
    data.prepare_data()
    protocol = Protocol(generated=24, fidelity_references=4, fidelity_epoch_images=4, extractors=files)
    judge = load_or_train_judge(data, tmp_path)
    network, other = extractors = build_extractors(protocol, data.spec, tmp_path)
    gan = GAN(data.spec, 0, latent_dim=8, generator_width=4, discriminator_width=4, class_width=4)
    outcome = Quality(data, judge, [judge, *extractors], protocol, 0).measure(gan, "validate", final=False)
    key = f"judge_{other.digest[:8]}"
    assert (network.key, other.key, judge.key) == (SMALL, key, "judge")
    for name in (SMALL, key, "judge"):
        for score in ("fid", "is", "kid", "precision"):
            assert f"quality/{score}_{name}" in outcome.metrics
        assert outcome.n[f"quality/fid_{name}"] == 24
    assert len({outcome.metrics[f"quality/fid_{name}"] for name in (SMALL, key, "judge")}) == 3
    assert not any("inception" in metric for metric in outcome.metrics)
    quality = outcome.protocol["quality"]
    assert quality[f"digest_{SMALL}"] == network.digest and quality["digest_judge"] == judge.digest
    own = judge_path(data.spec, tmp_path)
    (again,) = build_extractors(Protocol(extractors=[f"judge:{own}"]), data.spec, tmp_path)
    assert again.key == f"judge_{judge.digest[:8]}"  # the data's own, given by hand: still not `judge`
    entry = describe(f"quality/fid_{SMALL}")
    assert entry.label == "FID (shufflenet v2 x0 5)" and "features of shufflenet v2 x0 5" in entry.meaning


def test_a_judge_that_reads_turns_has_no_inception_score(tmp_path: Path) -> None:
    """The surer it is of how a picture is turned, the nearer its marginal is to one turn: the score falls to 1."""
    data = Digits(tmp_path, 0, max_images=300)
    data.prepare_data()
    (file := tmp_path / "turns.safetensors").write_bytes(to_bytes(other_judge(1, 32, "rotation"), 32, 1))
    protocol = Protocol(
        generated=24, fidelity_references=4, fidelity_epoch_images=4, extractors=[f"judge:{file}", f"judge:{file}2"]
    )
    (tmp_path / "turns.safetensors2").write_bytes(to_bytes(other_judge(1, 32), 32, 1))
    turns, classes = build_extractors(protocol, data.spec, tmp_path)
    judge = other_judge(1, 32, "rotation")
    gan = GAN(data.spec, 0, latent_dim=8, generator_width=4, discriminator_width=4, class_width=4)
    outcome = Quality(data, judge, [judge, turns, classes], protocol, 0).measure(gan, "validate", final=False)
    scored = {key for key in outcome.metrics if key.startswith("quality/is_")}
    assert scored == {f"quality/is_{classes.key}"} == {key for key in outcome.n if key.startswith("quality/is_")}
    assert {"quality/fid_judge", f"quality/fid_{turns.key}"} <= outcome.metrics.keys()
    beside = outcome.protocol["quality"]
    assert [key for key in beside if key.startswith("real_is")] == [f"real_is_{classes.key}"]


def test_what_cannot_score_is_refused(files: tuple[str, str], tmp_path: Path) -> None:
    def build(*extractors: str) -> None:
        build_extractors(Protocol(extractors=extractors), SPEC, tmp_path)

    with pytest.raises(UserError, match=f"names {SMALL} twice"):
        build(files[0], files[0])
    with pytest.raises(UserError, match="cannot be read"):
        build("judge:nowhere.safetensors")
    (tmp_path / "text").write_text("no judge")
    with pytest.raises(UserError, match="holds no judge"):
        build(f"judge:{tmp_path / 'text'}")
    (tmp_path / "large").write_bytes(to_bytes(other_judge(3, 64), 64, 3))
    with pytest.raises(UserError, match=r"3 channels and 64 pixels, and the data \(x\) are of 1 channels and 32"):
        build(f"judge:{tmp_path / 'large'}")


@pytest.mark.parametrize("written", ["resnet18", "torchvision:resnet18", "judge:", "timm:vit:file.pth"])
def test_other_spellings_are_refused(written: str) -> None:
    with pytest.raises(ConfigError, match=r"metrics\.extractors=\[.*expected entries torchvision:NETWORK:WEIGHTS"):
        Protocol(extractors=[written])


def test_a_list_on_the_command_line_and_its_paths_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (config,) = compose_checked(["metrics.extractors=[torchvision:resnet18:w/r18.pth,judge:/a/b:c.safetensors]"])
    kept = with_absolute_paths(config).metrics.extractors
    assert list(kept) == [f"torchvision:resnet18:{tmp_path}/w/r18.pth", "judge:/a/b:c.safetensors"]
    with pytest.raises(ConfigError, match=r"metrics\.extractors=3 is not allowed: expected a list, each text"):
        compose_checked(["metrics.extractors=3"])


def test_scoring_leaves_the_global_generator_as_it_was(files: tuple[str, str], tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    for extractor in build_extractors(Protocol(extractors=files), SPEC, tmp_path):
        extractor.extract(torch.full((2, 1, 32, 32), 0.5))
    assert torch.equal(torch.random.get_rng_state(), state)
