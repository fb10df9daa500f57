"""Numbers as a reader sees them."""

import math

import pytest

from securegan.reports.glossary import describe, interval_written, radius_written, short_count, written
from securegan.reports.redaction import redacted, redacted_command


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.642, "rate", "64.2\u00a0%"),
        (1.0, "rate", "100.0\u00a0%"),
        (None, "rate", "–"),
        (math.nan, "score", "–"),
        (math.inf, "score", "∞"),
        (12.34, "score", "12.3"),
        (0.0, "score", "0.000"),
        (-1.5, "score", "−1.50"),
        (123456.0, "score", "123,456"),
        (0.00001, "score", "1.0e−05"),
        (3.0, "count", "3"),
    ],
)
def test_written(value: float | None, kind: str, text: str) -> None:
    assert written(value, kind) == text  # type: ignore[arg-type]


def test_interval_names_its_unit_once() -> None:
    assert interval_written((0.1, 0.25), "rate") == "10.0 to 25.0\u00a0%"
    assert interval_written(None, "rate") == "–"


def test_radius_as_grey_levels_only_where_it_is_one() -> None:
    assert radius_written(8 / 255) == "0.03137 (8/255)"
    assert radius_written(0.125) == "0.125"
    assert radius_written(1.0) == "1"


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1280, "1.28k"),
        (10_720, "10.7k"),
        (12_500, "12.5k"),
        (17_500, "17.5k"),
        (25_000, "25k"),
        (128_000, "128k"),
        (999_400, "999k"),
        (999_600, "1M"),
        (2_500_000, "2.5M"),
        (3_000_000_000_000, "3000G"),
    ],
)
def test_short_count(n: int, text: str) -> None:
    assert short_count(n) == text


def test_a_tick_is_never_misstated_by_more_than_half_its_last_digit() -> None:
    for n in range(0, 300_000, 37):
        text = short_count(n)
        digits = text.removesuffix("k")
        unit = 1000 if text.endswith("k") else 1
        last = unit * 10 ** -len(digits.partition(".")[2])
        assert abs(float(digits) * unit - n) <= max(last, unit / 100) / 2 + 1e-6, (n, text)


def test_surface_and_adaptivity_are_read_from_the_key() -> None:
    entry = describe("robustness/system_attack_success_label_nonadaptive")
    assert (entry.surface, entry.kind) == ("label", "rate")
    assert "nonadaptive" in entry.label and "no claim" in entry.meaning
    assert describe("robustness/attack_success_authenticity_fake_to_real").surface == "authenticity"
    assert describe("made/up_figure").label == "up figure"


def test_secrets_are_hidden_by_name_and_token_counts_are_not() -> None:
    config = {"security": {"passphrase": "x", "private_key": "y", "password": None}, "model": {"tokens": 3, "key": 1}}
    hidden = redacted(config)
    assert hidden["security"] == {"passphrase": "<hidden>", "private_key": "<hidden>", "password": None}
    assert hidden["model"] == config["model"]
    assert redacted([{"api_key": "z"}]) == [{"api_key": "<hidden>"}]
    command = redacted_command("run a=1 +security.passphrase=x logger.wandb.api_key=y")
    assert command == "run a=1 +security.passphrase=<hidden> logger.wandb.api_key=<hidden>"


@pytest.mark.parametrize(
    ("name", "label", "surface"),
    [
        ("auddc_reconstruction", "Area under the distortion curve", "reconstruction"),
        ("as_target_reconstruction", "Target's class read", "reconstruction"),
        ("as_ignore_target_reconstruction", "Another class read", "reconstruction"),
        ("ssim_target_clean_reconstruction", "SSIM to the target, clean", "reconstruction"),
        ("best_of_20_random_success_latent_detector", "Best of 20 random codes", "latent_detector"),
        ("system_attack_success_label", "System attack success", "label"),
    ],
)
def test_figures_of_attacks_on_generative_models_are_described(name: str, label: str, surface: str) -> None:
    entry = describe(f"robustness/{name}")
    assert (entry.label, entry.surface) == (label, surface) and entry.meaning
