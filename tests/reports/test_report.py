"""The report: what it must hold, and what must never be in it."""

import base64
import io
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from securegan.errors import UserError
from securegan.reports.figures import Plots
from securegan.reports.html import render
from securegan.reports.pictures import attack_grid
from securegan.reports.protocol import attack_sentence
from securegan.reports.results import RunResults
from securegan.reports.style import LIGHT
from securegan.reports.terminal import print_summary
from securegan.reports.verdict import judge_run
from securegan.reports.write import write_report

WriteRun = Callable[[Path, dict[str, Any]], Path]

SURFACES = ("label", "authenticity", "latent")
DIAGNOSTICS = ("fidelity_clean", "fidelity_latent_attack", "distances", "attack_success", "detection")


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split()).replace("\u00a0", " ")


def report_of(folder: Path) -> tuple[str, Page]:
    html = write_report(folder).read_text(encoding="utf-8")
    return html, Page(html)


def page_without_figures(folder: Path) -> Page:
    """For what is said in words; drawing takes seconds."""
    return Page(render(RunResults.load(folder), Plots([], [], [], [])))


def test_full_report_holds_every_figure_with_n_and_interval(full_run: Path) -> None:
    _, page = report_of(full_run)
    for needed in (
        "64.2 %",
        "59.1 to 69.0 %",
        "352",
        "12.3",
        "PGD",
        "eps 0.125",
        "ab12cd34ef",
        "GAN on digits",
        "torch 2",
    ):
        assert needed in page.text, needed
    shown = {attributes.get("id") for tag, attributes in page.tags if tag == "figure"}
    assert {*DIAGNOSTICS, "quality", "losses", "samples", "paths", *(f"attack_{s}" for s in SURFACES)} <= shown
    assert sum(tag == "img" for tag, _ in page.tags) == len(shown - {None})


def test_report_needs_nothing_but_itself(full_run: Path) -> None:
    html, page = report_of(full_run)
    assert "://" not in html
    assert not any(tag in ("script", "link", "iframe", "object") for tag, _ in page.tags)
    for _, attributes in page.tags:
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:image/png;base64,").startswith("data:image/png;base64,")  # type: ignore[union-attr]
    assert "default-src 'none'" in html


def test_pictures_are_valid_and_the_same_on_disk(full_run: Path) -> None:
    html, _ = report_of(full_run)
    embedded = {base64.b64decode(code) for code in re.findall(r'src="data:image/png;base64,([^"]+)"', html)}
    files = {path.read_bytes() for path in (full_run / "figures").iterdir()}
    assert files and files == embedded
    for content in files:
        picture = Image.open(io.BytesIO(content))
        picture.load()
        assert min(picture.size) > 200


def test_second_report_is_the_same_and_leaves_nothing_behind(full_run: Path) -> None:
    first = write_report(full_run).read_bytes()
    (full_run / "figures" / "distances.png").write_bytes(b"stale")
    assert write_report(full_run).read_bytes() == first
    assert all(path.suffix == ".png" and path.name[0] != "." for path in (full_run / "figures").iterdir())


def test_figure_that_lost_its_data_is_removed_and_explained(full_run: Path) -> None:
    write_report(full_run)
    (full_run / "arrays.npz").unlink()
    _, page = report_of(full_run)
    assert not (full_run / "figures" / "distances.png").exists()
    assert "The run had no detector, so there are no distances." in page.text


def test_run_without_attack_and_detector_has_dashes_with_reasons(quiet_run: Path) -> None:
    page = page_without_figures(quiet_run)
    assert "Not measured: the run had no attack (attack=none)." in page.text
    assert "Not measured: the run had no detector (detector=none)." in page.text
    assert "0.0 %" not in page.text
    assert "No attack was measured, so nothing is claimed about robustness." in page.text


def test_run_without_anything_still_reports(tmp_path: Path, write_run: WriteRun) -> None:
    _, page = report_of(write_run(tmp_path, {"rows": []}))
    assert "Nothing has been measured in this run" in page.text
    assert "not been evaluated yet" in page.text


def test_rows_alone_are_called_validation_figures(tmp_path: Path, content: dict[str, Any], write_run: WriteRun) -> None:
    del content["test"]
    page = page_without_figures(write_run(tmp_path, content))
    assert "the test split has not been measured" in page.text


def test_violations_are_red_and_at_the_top(full_run: Path, content: dict[str, Any], write_run: WriteRun) -> None:
    bad = {"name": "unbounded_reaches_all", "passed": False, "detail": "0.41 of 128", "surface": "latent"}
    content["checks"].append(bad)
    write_run(full_run, content)
    page = page_without_figures(full_run)
    places = [attributes.get("id") or attributes.get("class") for _, attributes in page.tags]
    assert places.index("alarms") < places.index("figures")
    assert "1 of 2 gradient-masking checks failed" in page.text and "0.41 of 128" in page.text
    assert any(tag == "tr" and attributes.get("class") == "failed" for tag, attributes in page.tags)
    assert judge_run(RunResults.load(full_run)).level == "alarm"


def test_an_audit_stands_beside_the_checks(full_run: Path) -> None:
    assert "securegan audit RUN --full" in page_without_figures(full_run).text
    check = {"name": "black box <= white box", "surface": "latent", "passed": True, "detail": "3 found"}
    facts = {"checkpoint": "last", "epoch": 4, "split": "test", "images": 64, "full": True}
    (full_run / "audit.json").write_text(json.dumps({**facts, "checks": [check]}))
    text = page_without_figures(full_run).text
    assert "Full audit of the last checkpoint" in text and "None of 1 failed." in text and "3 found" in text
    level = judge_run(RunResults.load(full_run)).level
    (full_run / "audit.json").write_text(json.dumps({**facts, "checks": [check | {"passed": False}]}))
    page = page_without_figures(full_run)
    places = [attributes.get("id") or attributes.get("class") for _, attributes in page.tags]
    assert places.index("alarms") < places.index("figures")
    assert "1 of 1 checks of the audit failed" in page.text and "black box <= white box (latent)" in page.text
    assert level != "alarm" and judge_run(RunResults.load(full_run)).level == "alarm"
    (full_run / "audit.json").write_text("{")
    with pytest.raises(UserError, match=r"audit\.json is damaged"):
        RunResults.load(full_run)


def test_markup_in_names_is_text(full_run: Path, content: dict[str, Any], write_run: WriteRun) -> None:
    evil = '<script>alert("1")</script>'
    content["protocol"]["data"] |= {"name": evil, "class_names": [evil, "$x$ $"]}
    content["protocol"]["data"]["bad_files"] = {"skipped": [[evil, "not an image"]], "converted": []}
    content["protocol"]["surfaces"][evil] = evil
    content["test"]["metrics"][f"robustness/attack_success_{evil}"] = 0.5
    content["checks"][0]["detail"] = evil
    write_run(full_run, content)
    html, page = report_of(full_run)
    assert "<script" not in html and evil in page.text
    assert not any(tag == "script" for tag, _ in page.tags)
    assert all(path.parent == full_run / "figures" for path in full_run.rglob("*.png"))


def test_secrets_of_config_and_command_are_hidden(full_run: Path) -> None:
    page = page_without_figures(full_run)
    assert "sesame" not in page.text and page.text.count("<hidden>") == 2


def test_not_a_number_is_a_dash_and_an_alarm(full_run: Path, content: dict[str, Any], write_run: WriteRun) -> None:
    content["test"]["metrics"] |= {"quality/fid_judge": math.nan, "detection/auroc": None}
    content["test"]["notes"] = ["detection/auroc is undefined: no attack succeeded."]
    content["rows"][2]["metrics"]["robustness/attack_success_label"] = math.nan
    write_run(full_run, content)
    np.savez(full_run / "arrays.npz", fidelity_clean=np.array([0.5, np.nan, np.inf]), distance_real=np.full(5, np.nan))
    _, page = report_of(full_run)
    assert "Not a number, and therefore shown as a dash: FID (judge), AUROC." in page.text
    assert "Detection/auroc is undefined: no attack succeeded." in page.text
    assert "nan" not in page.text.lower().replace("provenance", "")


def test_low_clean_accuracy_and_nonadaptive_figures_are_said(
    full_run: Path, content: dict[str, Any], write_run: WriteRun
) -> None:
    content["test"]["metrics"]["robustness/clean_accuracy_label"] = 0.31
    page = page_without_figures(write_run(full_run, content))
    assert "Clean accuracy is low (31.0 %)" in page.text
    assert "nothing is claimed against one who does" in page.text


def test_outputs_of_another_class_that_do_not_count_as_lost_are_said(
    full_run: Path, content: dict[str, Any], write_run: WriteRun
) -> None:
    metrics = content["test"]["metrics"]
    metrics |= {"robustness/as_ignore_target_reconstruction": 0.9, "robustness/attack_success_reconstruction": 0.95}
    assert "reads another class" not in _cautions(write_run(full_run, content))
    metrics["robustness/attack_success_reconstruction"] = 0.04
    assert "another class in 90.0\u00a0% of the attacked reconstructions" in _cautions(write_run(full_run, content))


def _cautions(folder: Path) -> str:
    return " ".join(judge_run(RunResults.load(folder)).cautions)


def test_where_the_adversary_attacked_the_detector_too_that_is_said_instead(
    full_run: Path, content: dict[str, Any], write_run: WriteRun
) -> None:
    content["test"]["metrics"]["robustness/system_attack_success_label"] = 0.4
    page = page_without_figures(write_run(full_run, content))
    assert "nothing is claimed against one who does" not in page.text
    assert "the system attack success on label is of an adversary who attacked the detector too" in page.text
    assert "The adversary attacked the decision and the detector together." in page.text


@pytest.mark.parametrize(
    ("key", "words"), [("diversity", "outputs differ"), ("diversity_within_classes", "outputs of a class")]
)
def test_a_generator_that_repeats_itself_is_an_alarm(
    full_run: Path, content: dict[str, Any], write_run: WriteRun, key: str, words: str
) -> None:
    content["test"]["metrics"] |= {"quality/diversity": 0.95, "quality/diversity_within_classes": 0.9}
    assert "repeats itself" not in page_without_figures(write_run(full_run, content)).text
    content["test"]["metrics"][f"quality/{key}"] = 0.2
    page = page_without_figures(write_run(full_run, content))
    assert "The generator repeats itself" in page.text and words in page.text
    assert "0.200 times as much" in page.text and "Fidelity, precision and density do not count" in page.text
    content["test"]["metrics"][f"quality/{key}"] = 9.8e-4
    page = page_without_figures(write_run(full_run, content))
    assert "less than a hundredth as much" in page.text


def test_a_radius_of_zero_is_no_attack(full_run: Path, content: dict[str, Any], write_run: WriteRun) -> None:
    said = "Nothing was attacked on label and authenticity"
    assert said not in page_without_figures(full_run).text
    threats = content["protocol"]["attack"]["threat_models"]
    for surface in ("label", "authenticity"):
        threats[surface]["eps"] = 0.0
        content["test"]["metrics"][f"robustness/attack_success_{surface}"] = 0.0
    content["checks"][0] |= {"passed": None}
    page = page_without_figures(write_run(full_run, content))
    assert said in page.text and "None of 1 could be judged." in page.text
    verdict = judge_run(RunResults.load(full_run))
    assert verdict.level == "caution" and "correct class labels" not in verdict.sentence
    assert "64.2" in verdict.sentence  # the latent attack had a radius of its own


def test_a_score_under_a_floor_of_fewer_images_is_not_better_than_real(
    full_run: Path, content: dict[str, Any], write_run: WriteRun
) -> None:
    content["protocol"]["quality"] |= {"n_real_kept": 360}
    falls = "FID falls with the number of images"
    caution = "lies under that between two halves of the real images, 180 each"
    page = page_without_figures(write_run(full_run, content))
    assert falls in page.text and caution not in page.text  # 12.3, and the floor is 1.21
    content["test"]["metrics"]["quality/fid_judge"] = 1.1
    page = page_without_figures(write_run(full_run, content))
    assert caution in page.text and "not nearer to real images than real ones" in page.text
    content["test"]["n"]["quality/fid_judge"] = 100  # the floor is of more images: under it is under it
    assert falls not in page_without_figures(write_run(full_run, content)).text


def test_detector_that_flags_noise_is_called_out(full_run: Path, content: dict[str, Any], write_run: WriteRun) -> None:
    content["test"]["metrics"]["detection/tpr_random_noise"] = 0.7
    page = page_without_figures(write_run(full_run, content))
    assert "also flags 70.0 % of harmless random noise" in page.text


def test_bad_files_are_listed(full_run: Path, content: dict[str, Any], write_run: WriteRun) -> None:
    content["protocol"]["data"]["bad_files"] = {
        "counts": {"skipped": 1, "converted": 1},
        "skipped": [["a.png", "truncated"]],
        "converted": [{"name": "b.png", "reason": "palette image"}],
    }
    page = page_without_figures(write_run(full_run, content))
    for needed in ("Skipped: 1. Converted: 1.", "a.png", "truncated", "b.png", "palette image"):
        assert needed in page.text


def test_odd_values_still_draw(full_run: Path, content: dict[str, Any], write_run: WriteRun) -> None:
    """One epoch, a constant distance, images identical before and after, colour samples without labels."""
    content["rows"] = content["rows"][:1]
    write_run(full_run, content)
    same = np.full((2, 3, 8, 8), 0.5, dtype=np.float32)
    np.savez(full_run / "examples.npz", samples=same, label_clean=same, label_adversarial=same)
    np.savez(full_run / "arrays.npz", distance_real=np.ones(4, dtype=np.float32), fidelity_clean=np.zeros(3))
    write_report(full_run)
    assert (full_run / "figures" / "attack_label.png").is_file()
    assert not (full_run / "figures" / "attack_latent.png").exists()


def colours(figure: Figure) -> dict[str, list[str]]:
    """The annotations of a figure, in order, with their colours."""
    found: dict[str, list[str]] = {}
    for axes in figure.axes:
        for text in axes.texts:
            found.setdefault(text.get_text(), []).append(str(text.get_color()))
    return found


def test_an_attack_that_failed_is_not_shown_as_one_that_won(full_run: Path) -> None:
    """Words with numbers differ whether or not the decision was lost."""
    with np.load(full_run / "examples.npz") as stored:
        examples = dict(stored)
    examples["label_before"] = np.array(["kept, 1.00"] * 4)
    examples["label_after"] = np.array([f"said {number}" for number in range(4)])
    examples["label_lost"] = np.array([True, False, True, False])
    np.savez(full_run / "examples.npz", **examples)
    figure = attack_grid(RunResults.load(full_run), LIGHT, "label")
    assert isinstance(figure, Figure)
    shown = colours(figure)
    assert [shown[f"said {number}"] for number in range(4)] == [[LIGHT.alarm], [LIGHT.muted]] * 2
    assert {"clean", "perturbed", "decision before", "decision after"} <= shown.keys()


def test_what_an_adversary_who_knows_of_the_detector_made_is_shown_beside(full_run: Path) -> None:
    with np.load(full_run / "examples.npz") as stored:
        examples = dict(stored)
    examples |= {f"adaptive_{name}": value for name, value in examples.items() if name.startswith("label_")}
    examples["adaptive_label_after"] = np.array(["flagged", "one", "one", "one"])
    np.savez(full_run / "examples.npz", **examples)
    _, page = report_of(full_run)
    assert "Attacks on label and the detector together" in page.text
    assert (full_run / "figures" / "attack_adaptive_label.png").is_file()
    assert not (full_run / "figures" / "attack_adaptive_authenticity.png").exists()
    figure = attack_grid(RunResults.load(full_run), LIGHT, "adaptive_label")
    assert isinstance(figure, Figure) and "flagged" in colours(figure)


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        ({"name": "vae_latent", "norm": "linf", "eps": 0.1}, "the latent attack on VAEs, L∞ eps 0.1"),
        ({"name": "suite", "norm": "l2", "eps": 0.5}, "the suite, L2 eps 0.5"),
        ({"name": "few_pixel", "norm": "l0", "eps": 5.0}, "the few-pixel attack, 5 pixels"),
        ({"name": "fgsm"}, "FGSM"),
        ({"name": "their_own"}, "their_own"),
    ],
)
def test_attacks_are_called_as_their_papers_call_them(attack: dict[str, Any], said: str) -> None:
    assert attack_sentence(attack).startswith(said)


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_table_fits(full_run: Path, width: int) -> None:
    out = io.StringIO()
    print_summary(RunResults.load(full_run), full_run / "report.html", Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert all(len(line) <= width for line in lines[:-1])
    assert lines[-1].endswith("report.html") and "…" not in out.getvalue()
    assert any("Attack success: label" in line and "64.2" in line and "59.1 to 69.0" in line for line in lines)


def test_the_terminal_table_tells_its_rows_apart_and_has_none_for_what_was_not_measured(
    full_run: Path, quiet_run: Path, content: dict[str, Any], write_run: WriteRun
) -> None:
    content["test"]["metrics"]["quality/recall_judge"] = 0.7
    shown = [printed(write_run(full_run, content)), printed(quiet_run)]
    labels = [line[1:45].strip() for line in shown[0].splitlines()]
    assert [label for label in labels if "Recall" in label] == ["Recall (judge)"]
    assert "Attacks flagged" in shown[0]
    assert "Attack success" not in shown[1] and "AUROC" not in shown[1] and "FID" in shown[1]
    assert "No attack was measured" in shown[1]


def printed(folder: Path) -> str:
    out = io.StringIO()
    print_summary(RunResults.load(folder), folder / "report.html", Console(file=out, width=100))
    return out.getvalue()


def test_metrics_json_is_left_alone(full_run: Path) -> None:
    before = json.loads((full_run / "metrics.json").read_text())
    write_report(full_run)
    assert json.loads((full_run / "metrics.json").read_text()) == before
