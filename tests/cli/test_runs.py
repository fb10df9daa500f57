"""Commands on runs, as far as they are answered before torch is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

TOLD = """
import sys
from securegan.cli import main
try:
    main()
except SystemExit as ended:
    print(ended.code, "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    "words",
    [["report"], ["audit"], ["attack", "attack=fgsm", "--out", "x"], ["sample", "--out", "x"], ["intake", "--run"]],
    ids=lambda words: words[0],
)
def test_what_is_no_run_is_told_at_once(tmp_path: Path, words: list[str]) -> None:
    name, *further = words
    at = len(further) if name == "intake" else 0
    command = [sys.executable, "-c", TOLD, name, *further[:at], "nowhere", *further[at:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "nowhere is not a run folder" in done.stderr and done.stdout == "2 False\n", done.stderr
