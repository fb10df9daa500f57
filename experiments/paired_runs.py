"""Run the main job with and without a defence over seeds, and write what an experiment's folder holds.

Each run is a process of its own in ``runs/experiments/<name>/<arm>-seed<seed>``; a finished run is not made again, an
interrupted one is continued. ``results.json`` holds a row an arm with the values per seed; the tables of the folder's
README and its figures are made from it, between the marks ``<!-- results -->`` and ``<!-- /results -->``.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jobs import fill, run_missing
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from securegan.metrics.robustness import wilson
from securegan.runs.atomic import write_atomically, write_json

Rows = dict[str, dict[str, list[float]]]  # arm -> figure -> value per seed
SHOWN = {
    "robustness/clean_accuracy_label": "clean accuracy of the class head",
    "robustness/attack_success_label": "attack success on `label`",
    "robustness/random_success_label": "success of random noise of the same norm",
    "robustness/robust_accuracy_label": "robust accuracy on `label`",
    "robustness/attack_success_latent": "attack success on `latent`",
    "robustness/attack_success_authenticity": "attack success on `authenticity`",
    "quality/fid_judge": "FID (judge)",
    "quality/is_judge": "IS (judge)",
    "quality/diversity_within_classes": "diversity within classes, real images 1",
    "detection/tpr_at_5fpr": "detector: successful attacks caught at 5 % FPR",
    "detection/tpr_at_5fpr_random_noise": "detector: random noise of the same norm caught at 5 % FPR",
    "detection/false_positive_rate": "detector: clean images flagged at its threshold",
    "detection/auroc": "detector: AUROC",
    "detection/pass_rate_generated": "generated images that pass the detector",
    "detection/pass_rate_generated_judge": "generated images that pass a detector on the judge",
}
PLAIN = {"quality/fid_judge", "quality/is_judge", "quality/diversity_within_classes", "detection/auroc"}
ARMS = {"none": "no defence", "adversarial_training": "adversarial training"}


@dataclass(frozen=True)
class Study:
    """An experiment: its folder and the overrides that both arms share."""

    folder: Path
    overrides: Sequence[str]
    split_seed: int  # of splits on which no setting was chosen
    seeds: Sequence[int] = (1, 2, 3, 4, 5)
    local: Sequence[str] = ()  # likewise, but of this machine alone: not written into the results
    headline: bool = False  # whether the project's README shows its main figures

    @property
    def command(self) -> str:
        """With the arguments it was given."""
        return " ".join([f"python experiments/{self.folder.name}/run.py", *sys.argv[1:]])


def run_study(study: Study) -> None:
    """Command line of an experiment: make the missing runs, then the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=list(study.seeds))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    parser.add_argument("overrides", nargs="*", help="further overrides of both arms, such as data.path=...")
    chosen = parser.parse_args()
    base = Path("runs/experiments") / study.folder.name
    jobs = [(arm, seed) for seed in chosen.seeds for arm in ARMS]
    overrides = [f"data.split_seed={study.split_seed}", *study.overrides, *study.local, *chosen.overrides]
    run_missing({base / f"{arm}-seed{seed}": _settings(arm, seed, overrides) for arm, seed in jobs}, chosen.jobs)
    _write(study, base, chosen.seeds)


def _settings(arm: str, seed: int, overrides: Sequence[str]) -> list[str]:
    own = ["model=gan", "attack=pgd", f"defense={arm}", f"seed={seed}", "logger=csv", "trainer.threads=1"]
    return [*own, *overrides]


def _write(study: Study, base: Path, seeds: Sequence[int]) -> None:
    results = {arm: [json.loads((base / f"{arm}-seed{s}" / "metrics.json").read_text()) for s in seeds] for arm in ARMS}
    rows: Rows = {}
    for arm, found in results.items():
        keys = sorted(set.intersection(*(set(run["test"]["metrics"]) for run in found)))
        rows[arm] = {key: [run["test"]["metrics"][key] for run in found] for key in keys}
    failed = [
        f"{arm}, seed {seed}: {check['name']} ({check['surface']}): {check['detail']}"
        for arm, found in results.items()
        for seed, run in zip(seeds, found, strict=True)
        for check in run["checks"]
        if check["passed"] is False
    ]
    first = results["none"][0]
    about = json.loads((base / f"none-seed{seeds[0]}" / "environment.json").read_text())
    document: dict[str, Any] = {
        **{key: about[key] for key in ("commit", "versions", "machine")},
        "command": study.command,
        "overrides": list(study.overrides),
        "data": {key: first["protocol"]["data"][key] for key in ("name", "digest", "splits")},
        "seconds": round(sum(sum(run["seconds"].values()) for found in results.values() for run in found)),
        "protocol": {key: first["protocol"][key] for key in ("attack", "quality", "selection")},
        "failed_checks": failed,
        "rows": [
            {
                "setting": {"defense": arm, "epoch": [run["test"]["epoch"] for run in results[arm]]},
                "metrics": rows[arm],
                "n": {key: [run["test"]["n"].get(key) for run in results[arm]] for key in rows[arm]},
                "seeds": list(seeds),
            }
            for arm in ARMS
        ],
        "curves": {
            arm: [
                {
                    "images_seen": [row["images_seen"] for row in run["rows"]],
                    **{
                        name: [row["metrics"].get(f"robustness/attack_success_{name}") for row in run["rows"]]
                        for name in ("label", "latent")
                    },
                }
                for run in found
            ]
            for arm, found in results.items()
        },
    }
    write_json(study.folder / "results.json", document)
    _draw(study.folder / "attack_success.png", document)
    _fill_readme(study, document)


def table(document: dict[str, Any]) -> str:
    """Markdown of the figures per arm: mean over seeds, the smallest and largest seed, and the pooled n."""
    metrics = {row["setting"]["defense"]: row["metrics"] for row in document["rows"]}
    n = {row["setting"]["defense"]: row["n"] for row in document["rows"]}
    lines = [f"| figure (test split) | {' | '.join(ARMS.values())} | n a seed |", "|---|" + "---:|" * (len(ARMS) + 1)]
    for key, words in SHOWN.items():
        cells = [_cell(metrics[arm].get(key), plain=key in PLAIN) for arm in ARMS]
        counts = " / ".join(_counts(n[arm].get(key)) for arm in ARMS)
        lines.append(f"| {words} | {' | '.join(cells)} | {counts} |")
    return "\n".join(lines)


def _counts(n: list[int | None] | None) -> str:
    known = sorted({count for count in n or [] if count is not None})
    return "–" if not known else str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _cell(values: list[float] | None, *, plain: bool) -> str:
    if not values:
        return "–"
    show = (lambda v: f"{v:.2f}") if plain else (lambda v: f"{100 * v:.1f} %")
    if len(values) == 1:
        return show(values[0])
    return f"{show(statistics.mean(values))} ({show(min(values))} to {show(max(values))})"


def targets(document: dict[str, Any]) -> str:
    """Markdown of the paired comparisons that the experiment is about, with 95 % intervals."""
    none, defended = (row["metrics"] for row in document["rows"])
    success = defended["robustness/attack_success_label"]
    images = min(document["rows"][1]["n"]["robustness/attack_success_label"])  # of the test images, which seeds share
    over_images = wilson(round(statistics.mean(success) * images), images)
    over_seeds = [100 * v for v in _interval(np.array(success))]
    drop = np.subtract(none["robustness/clean_accuracy_label"], defended["robustness/clean_accuracy_label"])
    ratio = np.log(np.divide(defended["quality/fid_judge"], none["quality/fid_judge"]))
    ratios = tuple(float(np.exp(v)) for v in _interval(ratio))
    lost = [100 * v for v in _interval(drop)]
    caught = none.get("detection/tpr_at_5fpr")
    return "\n".join(
        [
            f"- Attack success on `label` with the defence: **{100 * statistics.mean(success):.1f} %** "
            f"({_range(over_seeds, '.1f')} over seeds; {100 * over_images[0]:.1f} to {100 * over_images[1]:.1f} over "
            f"images, for {images} of them); without it "
            f"{100 * statistics.mean(none['robustness/attack_success_label']):.1f} %. Target: at most 20 %, "
            f"{_met(statistics.mean(success), 0.2, max(over_images[1], over_seeds[2] / 100))}.",
            f"- Clean accuracy lost: **{lost[1]:.1f} points** ({_range(lost, '.1f')}, paired over seeds). "
            f"Target: at most 3, {_met(lost[1], 3, lost[2])}.",
            f"- FID with the defence over FID without: **{ratios[1]:.2f}** ({_range(ratios, '.2f')}, geometric mean, "
            f"paired over seeds). Target: at most 1.10, {_met(ratios[1], 1.1, ratios[2])}.",
            f"- Successful attacks on the undefended model caught at 5 % false positives: "
            f"**{_cell(caught, plain=False)}**, random noise of the same norm "
            f"{_cell(none.get('detection/tpr_at_5fpr_random_noise'), plain=False)}. Aim: at least 90 %.",
        ]
    )


def _met(value: float, target: float, upper: float) -> str:
    """Whether a figure that should be small is, and its interval's upper end with it."""
    if value > target:
        return "missed"
    return "met" if upper <= target else "met by the mean, not by the whole interval"


def _range(interval: Sequence[float], form: str) -> str:
    """Low to high of what :func:`_interval` gave, in words."""
    return "one seed, no interval" if np.isnan(interval[0]) else f"{interval[0]:{form}} to {interval[2]:{form}}"


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """Low, mean and high of a 95 % t interval over seeds; one seed has none."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return float("nan"), mean, float("nan")
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean - half, mean, mean + half


def _draw(path: Path, document: dict[str, Any]) -> None:
    """Attack success over images seen: every seed thin, the mean thick."""
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    colours = dict(zip(ARMS, ("#b5473c", "#2a6f97"), strict=True))
    for axis, name in zip(figure.subplots(1, 2, sharey=True), ("label", "latent"), strict=True):
        for arm, runs in document["curves"].items():
            values = np.array([[np.nan if v is None else v for v in run[name]] for run in runs], dtype=float)
            seen = runs[0]["images_seen"]
            axis.plot(seen, values.T, color=colours[arm], alpha=0.25, lw=0.8)
            axis.plot(seen, np.nanmean(values, axis=0), color=colours[arm], lw=2, label=ARMS[arm])
        axis.set(title=f"attack success on {name}", xlabel="images seen", ylim=(0, 1.02))
        axis.locator_params(axis="x", nbins=4)
        axis.grid(alpha=0.25)
    figure.axes[0].legend(frameon=False)
    FigureCanvasAgg(figure)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=130))


def _fill_readme(study: Study, document: dict[str, Any]) -> None:
    seeds = document["rows"][0]["seeds"]
    parts = [targets(document), table(document)]
    parts.append(f"Seeds {', '.join(map(str, seeds))}; mean (smallest to largest seed). ")
    checks = document["failed_checks"]
    parts[-1] += (
        "Every gradient-masking check passed in every run." if not checks else "Gradient-masking checks failed:"
    )
    parts += [f"- {line}" for line in checks]
    minutes = document["seconds"] / 60
    machine = document["machine"]
    parts.append(
        f"Made by `{study.command}` in {minutes:.0f} minutes of runs on one thread each, "
        f"on {machine['cores']} CPU cores ({machine['system']}), torch {document['versions']['torch']}."
    )
    fill(study.folder / "README.md", "results", "\n\n".join(parts))
    if study.headline:
        about = f"From `{study.command}`, seeds {', '.join(map(str, seeds))}, test split:"
        fill(study.folder.parents[1] / "README.md", "main figures", f"{about}\n\n{targets(document)}")
