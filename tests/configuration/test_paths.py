"""Paths of a configuration that is kept."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from securegan.configuration.compose import compose_checked
from securegan.configuration.paths import PLACES, with_absolute_paths


def test_every_place_is_kept_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    groups = ["data=folder", "attack=transfer", "security=signed"]
    (config,) = compose_checked([*groups, *(f"{place}=some/{place}" for place in PLACES)])
    kept = with_absolute_paths(config)
    for place in PLACES:
        assert OmegaConf.select(kept, place) == str(tmp_path / "some" / place)
        assert OmegaConf.select(config, place) == f"some/{place}"  # what was given is left as it is


def test_a_home_and_nothing_stay_as_they_are() -> None:
    (config,) = compose_checked(["security=signed", "security.keys='~/keys'"])
    kept = with_absolute_paths(config)
    assert kept.security["keys"] == "~/keys" and kept.security.trust is None
