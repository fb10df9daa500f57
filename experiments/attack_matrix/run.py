"""Every attack on every surface of GAN, VAE and hybrid: see README.md beside this file."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs import attack_missing, fill, run_missing

from securegan.reports.style import LIGHT, MARKERS, dress, legend, new_figure, percent_axis, png
from securegan.runs.atomic import write_atomically, write_json

FOLDER = Path(__file__).resolve().parent
BASE = Path("runs/experiments/attack_matrix")
MODELS = {"gan": "GAN", "vae": "VAE", "hybrid": "GAN+VAE"}
DATA = {
    "digits": ["data=digits"],
    "cifar10": ["data=cifar10", "data.max_images=4000", "data.batch_size=32", "trainer.max_epochs=12"],
}
TRAINED = ["attack=none", "detector=none", "logger=csv", "seed=1", "trainer.threads=1"]
LIMITS = [
    *["metrics.test_attack_images=100", "metrics.latent_attack_images=50", "metrics.check_images=0"],
    *["metrics.generated=100", "metrics.fidelity_references=64"],
]
RADII = "metrics.eps_factors=[0.125,0.25,0.5,0.75,1,1.5,2]"
LABELLED = "attack.surfaces=[label,authenticity,latent]"
ATTACKS: dict[str, tuple[str, list[str]]] = {  # name -> title, overrides
    "fgsm": ("FGSM", ["attack=fgsm"]),
    "pgd": ("PGD-20, 2 objectives x 5 starts", ["attack=pgd"]),
    "apgd": ("APGD-100, 2 objectives", ["attack=apgd", RADII]),
    "square": ("Square, 2,000 queries", ["attack=square", "attack.queries=2000"]),
    "genattack": ("GenAttack, 2,000 queries", ["attack=genattack", "attack.queries=2000"]),
    "suite": ("suite (worst case)", ["attack=suite", "attack.queries=2000"]),
    "transfer": ("PGD on a surrogate, transferred", ["attack=transfer"]),
    "advgan": ("AdvGAN", ["attack=advgan"]),
    "deepfool": ("DeepFool, L-inf", ["attack=deepfool", "attack.norm=linf"]),
    "cw": ("C&W, L2", ["attack=cw"]),
    "boundary": ("Boundary, L2, 5,000 queries", ["attack=boundary", "attack.queries=5000"]),
    "hopskipjump": ("HopSkipJump, L2, 5,000 queries", ["attack=hopskipjump", "attack.queries=5000"]),
    "few_pixel": (
        "5 pixels (differential evolution)",
        ["attack=few_pixel", "attack.queries=8000", "attack.population=100"],
    ),
    "vae_latent": ("VAE, towards a target's code", ["attack=vae_latent"]),
    "vae_output": ("VAE, towards a target's output", ["attack=vae_output"]),
    "vae_damage": ("VAE, greatest damage", ["attack=vae_damage"]),
}
ELSEWHERE = {"gan": {"vae_latent", "vae_output", "vae_damage"}, "vae": {"transfer"}}  # attacks that have no surface
SURFACES = ("label", "authenticity", "reconstruction", "latent")
KEPT = ("attack_success", "random_success", "clean_accuracy", "mean_queries", "median_distance", "median_nearest")


def main() -> None:
    """Train and attack what is missing, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", default=os.environ.get("SECUREGAN_DATA"), help="with cifar10.zip; else downloaded")
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    chosen = parser.parse_args()
    local = [f"data.path={Path(chosen.folder) / 'cifar10.zip'}"] if chosen.folder else []
    pairs = [(data, model) for data in chosen.data for model in chosen.models]
    run_missing(
        {
            trained(*pair): [f"model={pair[1]}", *DATA[pair[0]], *TRAINED, *(local if pair[0] == "cifar10" else [])]
            for pair in pairs
        },
        chosen.jobs,
    )
    attack_missing(
        {
            attacked(data, model, attack): (trained(data, model), [*ATTACKS[attack][1], *LIMITS])
            for attack in chosen.attacks
            for data, model in pairs
            if attack not in ELSEWHERE.get(model, ())
        },
        chosen.jobs,
    )
    write()


def trained(data: str, model: str) -> Path:
    """The folder of a trained run."""
    return BASE / f"{data}-{model}"


def attacked(data: str, model: str, attack: str) -> Path:
    """The folder of an attack on it."""
    return BASE / f"{data}-{model}-{attack}"


def write() -> None:
    """results.json, the tables and the figure of every attack that is there."""
    rows = [
        row(data, model, attack)
        for data in DATA
        for model in MODELS
        for attack in ATTACKS
        if (attacked(data, model, attack) / "report.html").is_file()
    ]
    first = rows[0]["setting"]
    about = json.loads((attacked(first["data"], first["model"], first["attack"]) / "environment.json").read_text())
    document: dict[str, Any] = {
        **{key: about[key] for key in ("commit", "versions", "machine")},
        "command": "python experiments/attack_matrix/run.py",
        "seconds": sum(sum(row["attack_seconds"].values()) for row in rows),
        "rows": rows,
    }
    write_json(FOLDER / "results.json", document)
    there = {row["setting"]["data"] for row in rows}
    body = "\n\n".join(table(document, data) for data in DATA if data in there)
    if any(row["setting"]["attack"] == "apgd" for row in rows):
        picture = png(success_by_radius())
        write_atomically(FOLDER / "radius.png", lambda temporary: temporary.write_bytes(picture))
        body += "\n\n![APGD's success against its radius](radius.png)"
    fill(FOLDER / "README.md", "results", body)


def row(data: str, model: str, attack: str) -> dict[str, Any]:
    """What one attack on one model found, on every surface that it is defined on."""
    found = json.loads((attacked(data, model, attack) / "metrics.json").read_text())
    test = found["test"]
    keys = [f"robustness/{figure}_{surface}" for surface in SURFACES for figure in KEPT]
    return {
        "setting": {"data": data, "model": model, "attack": attack, "protocol": found["protocol"]["attack"]},
        "metrics": {key: [test["metrics"][key]] for key in keys if key in test["metrics"]},
        "interval": {key: test["interval"][key] for key in keys if key in test["interval"]},
        "n": {key: test["n"][key] for key in keys if key in test["n"]},
        "attack_seconds": found["attack_seconds"],
        "seeds": [1],
    }


def table(document: dict[str, Any], data: str) -> str:
    """Attack success by attack, model and surface; distance, queries and seconds an input of the first surface."""
    rows = {
        (r["setting"]["model"], r["setting"]["attack"]): r for r in document["rows"] if r["setting"]["data"] == data
    }
    pairs = [
        (m, s) for m in MODELS for s in SURFACES if any(success(r, s) for (model, _), r in rows.items() if model == m)
    ]
    head = " | ".join(f"{MODELS[model]}: `{surface}`" for model, surface in pairs)
    lines = [f"**{data}**", "", f"| attack | {head} | queries | seconds |", "|---|" + "---:|" * (len(pairs) + 2)]
    for attack, (title, _) in ATTACKS.items():
        there = {model: r for (model, name), r in rows.items() if name == attack}
        if not there:
            continue
        cells = [success(there[model], surface) if model in there else "" for model, surface in pairs]
        counted = next(iter(there.values()))
        queries = max(value[0] for key, value in counted["metrics"].items() if "/mean_queries" in key)
        seconds = sum(sum(r["attack_seconds"].values()) for r in there.values())
        lines.append(f"| {title} | {' | '.join(cell or '–' for cell in cells)} | {queries:,.0f} | {seconds:,.0f} |")
    return "\n".join(lines)


def success(row: dict[str, Any], surface: str) -> str:
    """Attack success with its interval; empty where the attack is not defined on the surface."""
    key = f"robustness/attack_success_{surface}"
    if key not in row["metrics"]:
        return ""
    low, high = row["interval"][key]
    return f"{100 * row['metrics'][key][0]:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def success_by_radius() -> Figure:
    """APGD's success against its radius on every surface in pixels, a panel a data set."""
    figure = new_figure(LIGHT)
    there = [data for data in DATA if any((attacked(data, model, "apgd") / "arrays.npz").is_file() for model in MODELS)]
    for axes, data in zip(np.atleast_1d(figure.subplots(1, len(there))), there, strict=True):
        dress(axes, LIGHT, x=f"radius on {data}, in units of [0, 1]", y="attack success")
        position = 0
        for model, title in MODELS.items():
            file = attacked(data, model, "apgd") / "arrays.npz"
            if not file.is_file():
                continue
            arrays = np.load(file)
            for surface in ("label", "reconstruction"):
                if f"radius_{surface}" in arrays:
                    curve = np.vstack([np.zeros((1, 3)), arrays[f"radius_{surface}"]])
                    style = {
                        "color": LIGHT.cycle[position % len(LIGHT.cycle)],
                        "marker": MARKERS[position % len(MARKERS)],
                    }
                    axes.plot(curve[:, 0], curve[:, 1], markersize=5, label=f"{title}, {surface}", **style)
                    position += 1
        percent_axis(axes, LIGHT)
        axes.set_xlim(left=0)
        legend(axes, LIGHT)
    return figure


if __name__ == "__main__":
    main()
