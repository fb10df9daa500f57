"""Adversarial training against no defence on scikit-learn's digits, five seeds: see README.md beside this file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paired_runs import Study, run_study

if __name__ == "__main__":
    run_study(Study(Path(__file__).parent, ["data=digits"], split_seed=2, headline=True))
