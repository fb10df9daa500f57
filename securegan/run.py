"""The main job: ``python -m securegan.run model=gan attack=pgd``. Compose, build, fit, test, release, report."""

import os
import shlex
import sys
from pathlib import Path
from traceback import walk_tb

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from securegan.cli.parser import Parser
from securegan.configuration.compose import compose_checked, config_dir, register
from securegan.errors import UserError
from securegan.installation import check_installation
from securegan.runs.quiet import quieten
from securegan.security.provenance.requirement import REQUIRED


def job(config: DictConfig) -> None:
    """One run in Hydra's run folder, or the run that ``ckpt`` names continued, unless it has finished."""
    from securegan.runs.folder import RunFolder

    if config.ckpt and RunFolder.open(Path(config.ckpt)).has_finished():
        report = Path(config.ckpt) / "report.html"
        sys.stdout.write(f"{config.ckpt} has already finished, and nothing was done: its report is {report}.\n")
        return
    from securegan.experiment import Experiment  # imports Lightning, and with it torchvision

    quieten()
    folder = Path(HydraConfig.get().runtime.output_dir)
    experiment = Experiment.resume(Path(config.ckpt)) if config.ckpt else Experiment.start(folder, config)
    with experiment:
        experiment.fit()
        experiment.test()
        experiment.release()
        experiment.report()


def main() -> None:
    """The command line: a user's mistake ends with one sentence and exit code 2, an interruption with 130 or 143."""
    sys.argv[1:] = take_requirement(sys.argv[1:])
    try:
        check_installation()
        for config in compose_checked(sys.argv[1:]):
            if config.ckpt:
                from securegan.runs.folder import RunFolder

                RunFolder.open(Path(config.ckpt))  # before Hydra makes the folder that it is told to write into
    except UserError as error:
        _refuse(error)
    register()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # lets errors through, so that those of the run folder get here
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(_guarded)()
    except OSError as error:
        if any(frame.f_code is _guarded.__code__ for frame, _ in walk_tb(error.__traceback__)):
            raise  # of the job, whose folder Hydra had made
        folder = os.path.abspath(error.filename or ".")
        _refuse(
            UserError(
                f"the run folder {folder} cannot be made ({error.strerror}): choose another folder with "
                "hydra.run.dir=..., or hydra.sweep.dir=... for a sweep."
            )
        )


def take_requirement(argv: list[str]) -> list[str]:
    """``argv`` without ``--require-signed`` and ``--trust``, which go into the environment: DDP's processes inherit it.

    Whatever the configuration of the run that ``ckpt`` names says of signatures, it is not asked.
    """
    parser = Parser(prog="securegan run", add_help=False, allow_abbrev=False)
    parser.add_argument("--require-signed", action="store_true")
    parser.add_argument("--trust", type=Path)
    found, rest = parser.parse_known_args(argv)
    if found.trust is not None:
        os.environ[REQUIRED] = str(found.trust.expanduser().absolute())
    elif found.require_signed and os.environ.get(REQUIRED, "") in ("", "0"):
        os.environ[REQUIRED] = "1"
    return rest


def _guarded(config: DictConfig) -> None:
    try:
        job(config)
    except UserError as error:  # before Hydra, which would print a traceback and exit with 1
        _refuse(error)
    except (KeyboardInterrupt, SystemExit) as end:  # Lightning makes the second of both Ctrl-C and SIGTERM
        _interrupted(Path(config.ckpt or HydraConfig.get().runtime.output_dir), end)


def _interrupted(folder: Path, end: BaseException) -> None:
    """Say how to go on, and exit as a shell expects of SIGTERM (143) and of Ctrl-C (130)."""
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    saved = (folder / "checkpoints" / "index.json").is_file()
    how = f"continue with: python -m securegan.run ckpt={shlex.quote(str(folder))}"
    sys.stderr.write(f"securegan: interrupted; {how if saved else 'nothing was saved yet, start it anew.'}\n")
    sys.exit(143 if isinstance(end, SIGTERMException) else 130)


def _refuse(error: UserError) -> None:
    sys.stderr.write(f"securegan: {error}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
