"""GAN, VAE and hybrid at equal images seen on CIFAR-10: see README.md beside this file."""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs import fill, run_missing

from securegan.runs.atomic import write_json

FOLDER = Path(__file__).resolve().parent
MODELS = {
    "gan": "GAN (DCGAN)",
    "vae": "VAE",
    "hybrid": "GAN+VAE",
    "gan_strong": "GAN, strong preset",
    "hybrid_strong": "GAN+VAE, strong preset",
}
COMMON = [
    *["attack=none", "defense=none", "detector=none", "logger=csv", "data=cifar10", "data.batch_size=64"],
    *["data.split_seed=1", "metrics.every_n_epochs=2", "metrics.generated=5000"],
]
IMAGES = 200_000  # seen, at least
SHOWN = {
    "quality/fid_inception": "FID",
    "quality/is_inception": "IS",
    "quality/fid_judge": "FID (judge)",
    "quality/is_judge": "IS (judge)",
    "quality/kid_judge": "KID (judge)",
    "quality/precision_judge": "precision",
    "quality/recall_judge": "recall",
    "quality/class_accuracy_judge": "class read",
    "quality/diversity_within_classes": "diversity within classes",
    "quality/reconstruction_ssim": "reconstruction SSIM",
    "seconds": "seconds",
}
HIDDEN = {"seconds"}  # in the results alone: runs share their machine with others
RATIOS = (("hybrid", "gan"), ("gan", "vae"), ("hybrid", "vae"), ("gan_strong", "gan"), ("hybrid_strong", "gan"))


def main() -> None:
    """Run what is missing, and write the results of the runs that are there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("SECUREGAN_DATA"), help="folder with cifar10.zip; else all")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    parser.add_argument("overrides", nargs="*", help="of all runs, such as metrics.inception_weights=PATH")
    chosen = parser.parse_args()
    base = Path("runs/experiments/quality_table")
    local = [f"data.path={Path(chosen.data) / 'cifar10.zip'}"] if chosen.data else []
    train = 16_000 if chosen.data else 40_000  # of the cut and of the whole set, a tenth each kept for two other splits
    length = f"trainer.max_epochs={-(-IMAGES // (train // 64 * 64))}"
    jobs = {
        base / f"{model}-seed{seed}": [
            *[f"model={model}", f"seed={seed}", "trainer.threads=1", length],
            *[*COMMON, *local, *chosen.overrides],
        ]
        for seed in chosen.seeds
        for model in chosen.models
    }
    run_missing(jobs, chosen.jobs)
    write(base)


def write(base: Path) -> None:
    """Results of every finished run in ``base``, the table and the paired ratios."""
    found: dict[str, dict[int, Path]] = {}
    for model in MODELS:
        there = sorted(base.glob(f"{model}-seed*/report.html"))
        if there:
            found[model] = {int(path.parent.name.rpartition("seed")[2]): path.parent for path in there}
    results = {
        model: {seed: json.loads((path / "metrics.json").read_text()) for seed, path in folders.items()}
        for model, folders in found.items()
    }
    first = next(path for folders in found.values() for path in folders.values())
    about = json.loads((first / "environment.json").read_text())
    protocol = json.loads((first / "metrics.json").read_text())["protocol"]
    rows = []
    for model, runs in results.items():
        metrics: dict[str, list[float]] = {}
        for key in SHOWN:
            if key == "seconds":
                metrics[key] = [round(sum(run["seconds"].values())) for run in runs.values()]
            elif all(key in run["test"]["metrics"] for run in runs.values()):
                metrics[key] = [run["test"]["metrics"][key] for run in runs.values()]
        seen = [run["rows"][-1]["images_seen"] for run in runs.values()]
        chosen = [run["test"]["epoch"] for run in runs.values()]
        commits = [json.loads((path / "environment.json").read_text())["commit"] for path in found[model].values()]
        setting = {"model": model, "images_seen": seen, "epoch": chosen, "commit": commits}
        n = {key: [run["test"]["n"].get(key) for run in runs.values()] for key in metrics}
        rows.append({"setting": setting, "metrics": metrics, "n": n, "seeds": list(runs)})
    document: dict[str, Any] = {
        **{key: about[key] for key in ("commit", "versions", "machine")},
        "command": "python experiments/quality_table/run.py",
        "seconds": sum(sum(row["metrics"]["seconds"]) for row in rows),
        "protocol": {"quality": protocol["quality"], "selection": protocol["selection"], "data": protocol["data"]},
        "rows": rows,
    }
    write_json(FOLDER / "results.json", document)
    fill(FOLDER / "README.md", "results", words(document))


def words(document: dict[str, Any]) -> str:
    """The table, and the ratios of FID between models over the seeds that both have."""
    shown = {key: title for key, title in SHOWN.items() if key not in HIDDEN}
    lines = [f"| model | seeds | {' | '.join(shown.values())} |", "|---|---|" + "---:|" * len(shown)]
    for row in document["rows"]:
        cells = [cell(row["metrics"].get(key)) for key in shown]
        seeds = ", ".join(map(str, row["seeds"]))
        lines.append(f"| {MODELS[row['setting']['model']]} | {seeds} | {' | '.join(cells)} |")
    fids = {
        r["setting"]["model"]: dict(zip(r["seeds"], r["metrics"]["quality/fid_judge"], strict=True))
        for r in document["rows"]
    }
    ratios = []
    for one, other in RATIOS:
        both = sorted(set(fids.get(one, {})) & set(fids.get(other, {})))
        if both:
            values = [fids[one][seed] / fids[other][seed] for seed in both]
            mean, listed = statistics.geometric_mean(values), ", ".join(f"{value:.2f}" for value in values)
            ratios.append(f"- FID (judge) of {MODELS[one]} over {MODELS[other]}: **{mean:.2f}** (seeds: {listed})")
    quality, machine = document["protocol"]["quality"], document["machine"]
    seconds, torch = document["seconds"], document["versions"]["torch"]
    protocol = [
        "Mean (smallest to largest seed).",
        f"{quality['n_fake']:,} outputs of the averaged generator, {quality['n_real']:,} real ones of the test split;",
        f"the judge reads {100 * quality['judge_accuracy']:.0f} % of real validation images rightly; two halves",
        f"of the real images lie at FID {quality['floor_fid_judge']:.2f}.",
        f"Checkpoint: {document['protocol']['selection']}.",
        f"Made by `{document['command']}` in {seconds / 3600:.1f} hours of runs of one thread,",
        f"each on one of the CPU's cores ({machine['system']}) that it shared, torch {torch}.",
    ]
    return "\n".join([*lines, "", *ratios, "", " ".join(protocol)])


def cell(values: list[float] | None) -> str:
    """Mean and range over seeds; a dash where there is no figure."""
    if not values:
        return "–"
    digits = 0 if max(values) >= 100 else 2 if max(values) >= 1 else 3
    show = [f"{value:.{digits}f}" for value in (statistics.mean(values), min(values), max(values))]
    return show[0] if len(values) == 1 else f"{show[0]} ({show[1]} to {show[2]})"


if __name__ == "__main__":
    main()
