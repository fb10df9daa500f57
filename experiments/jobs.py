"""Runs of an experiment, each a process of its own: a finished one is not made again, an interrupted one continued."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from omegaconf import OmegaConf

from securegan.configuration.compose import compose_checked
from securegan.runs.atomic import write_atomically


def run_missing(jobs: Mapping[Path, Sequence[str]], at_a_time: int) -> None:
    """Make the runs that are missing: run folder -> overrides."""
    for folder, settings in jobs.items():  # before any starts, and in this thread: Hydra composes one at a time
        refuse_another_config(folder, settings)
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(_run, jobs, jobs.values()))


def _run(folder: Path, overrides: Sequence[str]) -> None:
    if (folder / "report.html").is_file():
        return
    continued = (folder / "checkpoints" / "index.json").is_file()
    settings = [f"ckpt={folder}"] if continued else [*overrides, f"hydra.run.dir={folder}"]
    _call(folder, ["-m", "securegan.run", *settings])


def attack_missing(attacks: Mapping[Path, tuple[Path, Sequence[str]]], at_a_time: int) -> None:
    """Attack trained runs: folder of the attack -> run folder and overrides."""
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(_attack, attacks, attacks.values()))


def _attack(folder: Path, job: tuple[Path, Sequence[str]]) -> None:
    trained, overrides = job
    if not (folder / "report.html").is_file():
        _call(folder, ["-m", "securegan", "attack", str(trained), *overrides, "--out", str(folder)])


def _call(folder: Path, arguments: Sequence[str]) -> None:
    command = [sys.executable, *arguments]
    folder.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: see {folder}.log")
    print(f"{folder.name}: {time.monotonic() - start:.0f} s", flush=True)


def refuse_another_config(folder: Path, settings: Sequence[str]) -> None:
    """A run made under other settings must not enter the results."""
    if not (folder / "config.yaml").is_file():
        return
    (wanted,) = compose_checked(settings)
    found = OmegaConf.load(folder / "config.yaml")
    plain = [OmegaConf.to_container(config, resolve=True) for config in (wanted, found)]
    if plain[0] != plain[1]:
        raise SystemExit(f"{folder} was run under another configuration: remove it, and run this again.")


def fill(readme: Path, mark: str, body: str) -> None:
    """Replace what stands between ``<!-- mark -->`` and ``<!-- /mark -->``."""
    head, opening, rest = readme.read_text().partition(f"<!-- {mark} -->")
    _, closing, tail = rest.partition(f"<!-- /{mark} -->")
    if not (opening and closing):
        raise SystemExit(f"{readme} has no marks <!-- {mark} --> and <!-- /{mark} -->.")
    text = f"{head}{opening}\n{body}\n{closing}{tail}"
    write_atomically(readme, lambda temporary: temporary.write_text(text))
