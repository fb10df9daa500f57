"""Every option composes to exactly what its constructor takes, and the defaults stand nowhere else."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from securegan.configuration.allowlist import resolve
from securegan.configuration.compose import compose_checked, config_dir
from securegan.configuration.schema import OPTIONAL, OPTIONS, SEVERAL, parameters_of, schema_of
from securegan.errors import ConfigError

EVERY = [(group, option) for group, options in OPTIONS.items() for option in options]


def chosen(group: str, option: str) -> dict[str, Any]:
    """The composed node of ``option``; text stands in for settings that only the user can give."""
    given = [
        f"{group}.{name}=somewhere"
        for name, (_, default) in parameters_of(resolve(OPTIONS[group][option])).items()
        if default is inspect.Parameter.empty
    ]
    (cfg,) = compose_checked([f"{group}={option}", *given])
    node = cfg[group][option] if group in SEVERAL else cfg[group]
    plain = OmegaConf.to_container(node)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@pytest.mark.parametrize(("group", "option"), EVERY)
def test_option_has_its_constructors_keywords(group: str, option: str) -> None:
    node = chosen(group, option)
    assert node.pop("_target_") == OPTIONS[group][option]
    assert set(node) == set(parameters_of(resolve(OPTIONS[group][option])))


@pytest.mark.parametrize(("group", "option"), EVERY)
def test_yaml_repeats_no_default(group: str, option: str) -> None:
    written = yaml.safe_load((config_dir() / group / f"{option}.yaml").read_text())
    assert f"/schema/{group}/{option}@_here_" in written.pop("defaults")
    defaults = schema_of(OPTIONS[group][option])
    assert set(written) <= set(defaults)
    assert not [key for key, value in written.items() if defaults[key] == value]


def test_the_strong_presets_differ_from_their_models_alike() -> None:
    def changed(strong: str, plain: str) -> dict[str, Any]:
        before = chosen("model", plain)
        return {key: value for key, value in chosen("model", strong).items() if value != before[key]}

    of_gan = changed("gan_strong", "gan")
    assert of_gan == changed("hybrid_strong", "hybrid") and of_gan["loss"] == "relativistic"
    with pytest.raises(ConfigError):
        compose_checked(["model=shared/strong"])


@pytest.mark.parametrize("group", sorted(OPTIONAL))
def test_none_leaves_an_empty_node(group: str) -> None:
    (cfg,) = compose_checked([f"{group}=none"])
    assert cfg[group] == {}


def test_table_and_folder_agree() -> None:
    in_folder = {(path.parent.name, path.stem) for path in config_dir().glob("*/*.yaml") if path.parent.name in OPTIONS}
    assert in_folder == {*EVERY, *((group, "none") for group in OPTIONAL)}


def test_default_command_chooses_the_documented_options() -> None:
    (cfg,) = compose_checked(["model=gan", "attack=pgd"])
    assert cfg == compose_checked([])[0]
    assert list(cfg.defense) == ["adversarial_training"]
    assert list(cfg.detector) == ["mahalanobis"]
    assert list(cfg.logger) == ["wandb", "csv"]
    assert cfg.security == {}
    assert cfg.seed == 0


@pytest.mark.parametrize(
    ("group", "options"), [("defense", ["adversarial_training", "gradient_penalty"]), ("logger", ["wandb", "csv"])]
)
def test_several_options_of_a_group_are_all_in_effect(group: str, options: list[str]) -> None:
    (cfg,) = compose_checked([f"{group}=[{','.join(options)}]"])
    assert list(cfg[group]) == options
    for option in options:
        assert cfg[group][option]["_target_"] == OPTIONS[group][option]
        assert set(cfg[group][option]) == set(chosen(group, option))


@pytest.mark.parametrize("path", sorted((config_dir() / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_composes(path: Path) -> None:
    (cfg,) = compose_checked([f"experiment={path.stem}"])
    assert cfg["model"]


def test_importing_a_component_waits_until_it_is_chosen() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from securegan.configuration.compose import compose_checked;"
        "compose_checked(['data=digits', 'logger=csv', 'defense=none']);"
        "sys.exit(bool({'wandb', 'securegan.reports.wandb_logger'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=config_dir().parent, check=False).returncode == 0


def test_defaults_are_plain_data_and_missing_ones_are_marked() -> None:
    schema = schema_of("securegan.attacks.evasion.pgd.PGD")
    assert schema["objectives"] == ["ce", "margin"]
    assert schema["eps"] is None
    assert "default_eps" not in schema
