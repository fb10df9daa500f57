"""The main job on CIFAR-10 and on DFDC faces up to 256x256, short: see README.md beside this file."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs import fill, refuse_another_config

from securegan.runs.atomic import write_json

FOLDER = Path(__file__).resolve().parent
COMMON = ["attack=pgd", "seed=1", "logger=csv"]
FACES = ["data=folder", "data.eps=8/255", "data.batch_size=8"]
LARGE = [
    *[*FACES, "data.size=256", "data.max_images=800", "trainer.max_epochs=5", "metrics.every_n_epochs=5"],
    *["attack.restarts=1", "metrics.generated=200", "metrics.test_attack_images=40"],
    *["metrics.latent_attack_images=20", "metrics.check_images=16", "metrics.fidelity_epoch_images=32"],
]
NARROW = ["model.generator_width=24", "model.discriminator_width=16", "model.class_width=16"]
JOBS = {
    "cifar10": ["model=gan", "data=cifar10", "data.max_images=4000", "data.batch_size=32", "trainer.max_epochs=12"],
    "dfdc": [
        *["model=gan", *FACES, "data.size=128", "data.max_images=1000", *NARROW],
        *["model.lr_discriminator=1e-3", "trainer.max_epochs=30", "metrics.every_n_epochs=5"],
        *["metrics.generated=500", "metrics.test_attack_images=100", "metrics.latent_attack_images=50"],
    ],
    "gan_256": ["model=gan", *NARROW, "model.lr_discriminator=1e-3", *LARGE],
    "vae_256": ["model=vae", "model.encoder_width=16", "model.decoder_width=24", *LARGE],
    "hybrid_256": ["model=hybrid", *NARROW, "model.lr_discriminator=1e-3", *LARGE],
}
FILES = {name: "cifar10.zip" if name == "cifar10" else "dfdc_faces.zip" for name in JOBS}
TITLES = {
    "cifar10": "GAN, CIFAR-10 at 32x32",
    "dfdc": "GAN, faces at 128x128",
    "gan_256": "GAN, faces at 256x256",
    "vae_256": "VAE, faces at 256x256",
    "hybrid_256": "GAN+VAE, faces at 256x256",
}
SHOWN = {
    "quality/fid_judge": "FID (judge)",
    "quality/class_accuracy_judge": "outputs in which the judge reads the class asked for",
    "quality/diversity": "diversity, real images 1",
    "quality/diversity_within_classes": "diversity within classes, real images 1",
    "robustness/clean_accuracy_label": "clean accuracy of the class head",
    "robustness/attack_success_label": "attack success on `label`",
    "quality/reconstruction_ssim": "SSIM of reconstructions",
    "robustness/attack_success_reconstruction": "attack success on `reconstruction`",
    "memory/peak_mib": "peak memory, MiB",
    "memory/growth": "peak memory of the second half of training over that of the first",
}


def main() -> None:
    """Run what is missing, one job after the other, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("SECUREGAN_DATA"), help="folder of the zips")
    parser.add_argument("--only", nargs="+", choices=list(JOBS), default=list(JOBS), help="the other rows are kept")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    if chosen.data is None:
        raise SystemExit("give --data=FOLDER with cifar10.zip and dfdc_faces.zip, or set SECUREGAN_DATA.")
    rows = {}
    if (FOLDER / "results.json").is_file():
        rows = {row["setting"]["job"]: row for row in json.loads((FOLDER / "results.json").read_text())["rows"]}
    for name in chosen.only:
        overrides = JOBS[name]
        folder = Path("runs/experiments/real_images") / name
        settings = [*COMMON, *overrides, f"data.path={chosen.data / FILES[name]}", f"trainer.threads={chosen.threads}"]
        refuse_another_config(folder, settings)
        if not (folder / "report.html").is_file():
            run(folder, settings)
        rows[name] = row(folder, name, overrides)
    about = json.loads((folder / "environment.json").read_text())
    document: dict[str, Any] = {
        **{key: about[key] for key in ("commit", "versions", "machine")},
        "command": "python experiments/real_images/run.py",
        "seconds": round(sum(row["seconds"] for row in rows.values())),
        "rows": [rows[name] for name in JOBS if name in rows],
    }
    write_json(FOLDER / "results.json", document)
    samples = Path("runs/experiments/real_images/cifar10/figures/samples.png")
    if "cifar10" in chosen.only:
        with Image.open(samples) as picture:
            picture.convert("RGB").save(FOLDER / "cifar10_samples.png", optimize=True)
    fill(FOLDER / "README.md", "results", table(document))


def run(folder: Path, settings: list[str]) -> None:
    """One job in a process of its own, its resident memory read every second."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = ["-m", "securegan.run", f"hydra.run.dir={folder}"]
    start, memory = time.monotonic(), []
    with Path(f"{folder}.log").open("w") as log:
        process = subprocess.Popen([sys.executable, *command, *settings], stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            memory.append([time.time(), resident_mib(process.pid)])
            time.sleep(1)
    if process.returncode:
        raise SystemExit(f"the run failed: see {folder}.log")
    write_json(folder / "memory.json", {"seconds": time.monotonic() - start, "mib": memory})


def resident_mib(pid: int) -> float:
    """Resident memory of a process; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def row(folder: Path, name: str, overrides: list[str]) -> dict[str, Any]:
    """What a finished run says, and how its memory went while it trained."""
    found = json.loads((folder / "metrics.json").read_text())
    about = json.loads((folder / "environment.json").read_text())
    memory = json.loads((folder / "memory.json").read_text())
    times = np.array(memory["mib"])
    spent = found["seconds"]["train"] + found["seconds"]["evaluate"]
    end = times[-1, 0] - found["seconds"]["test"]
    training = times[(times[:, 0] > end - 0.9 * spent) & (times[:, 0] < end), 1]  # after the first tenth
    halves = [float(half.max()) for half in np.array_split(training, 2)]
    metrics = {key: [found["test"]["metrics"][key]] for key in SHOWN if key in found["test"]["metrics"]}
    metrics |= {"memory/peak_mib": [float(times[:, 1].max())], "memory/growth": [halves[1] / halves[0]]}
    metrics["train/images_per_second"] = [
        statistics.median(r["metrics"]["train/images_per_second"] for r in found["rows"])
    ]
    return {
        "setting": {"job": name, "overrides": overrides, "epoch": found["test"]["epoch"], "commit": about["commit"]},
        "metrics": metrics,
        "n": {key: [found["test"]["n"].get(key)] for key in metrics},
        "seconds": memory["seconds"],
        "seeds": [1],
    }


def table(document: dict[str, Any]) -> str:
    """Markdown of the figures, a column a run."""
    rows = document["rows"]
    titles = [TITLES[row["setting"]["job"]] for row in rows]
    lines = [f"| figure (test split) | {' | '.join(titles)} |", "|---|" + "---:|" * len(rows)]
    for key, words in SHOWN.items():
        cells = [row["metrics"].get(key, [None])[0] for row in rows]
        share = "accuracy" in key or "success" in key
        written = [
            "–" if v is None else f"{100 * v:.1f} %" if share else f"{v:,.0f}" if v > 100 else f"{v:.2f}" for v in cells
        ]
        lines.append(f"| {words} | {' | '.join(written)} |")
    machine = document["machine"]
    lines.append("")
    lines.append(
        f"Made by `{document['command']}` in {document['seconds'] / 60:.0f} minutes on {machine['cores']} CPU cores "
        f"({machine['system']}), torch {document['versions']['torch']}."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
