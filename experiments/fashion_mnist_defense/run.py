"""Adversarial training against no defence on Fashion-MNIST, five seeds: see README.md beside this file."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paired_runs import Study, run_study

if __name__ == "__main__":
    folder = os.environ.get("SECUREGAN_DATA")
    cut = Path(folder or "") / "fashion_mnist.zip"
    if folder and not cut.is_file():
        raise SystemExit(f"SECUREGAN_DATA={folder} holds no fashion_mnist.zip.")
    local = [f"data.path={cut}"] if folder else []  # otherwise torchvision's download, of all 70,000 images
    run_study(Study(Path(__file__).parent, ["data=fashion_mnist", "data.batch_size=32"], split_seed=1, local=local))
