"""Commands on run folders: ``report``, ``attack``, ``audit``, ``sample`` and ``export``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from securegan.cli.keys import add_ring
from securegan.cli.parser import Commands, Parser, positive, run_folder
from securegan.cli.provenance.options import trust_of, trusting
from securegan.cli.terminal import say

if TYPE_CHECKING:
    from securegan.security.provenance.trust import Trust


def add(commands: Commands) -> None:
    """The commands of this module."""
    report = commands.add_parser("report", help="make the figures and report.html of a run folder again")
    report.add_argument("run", type=run_folder, metavar="RUN", help="a run folder")
    report.set_defaults(do=_report)
    attack = commands.add_parser("attack", help="attack a trained run with something else, with a report of its own")
    attack.add_argument("run", type=run_folder, metavar="RUN", help="a run folder")
    attack.add_argument("overrides", nargs="+", metavar="SETTING", help="such as attack=suite attack.eps=8/255")
    attack.add_argument("--out", type=Path, required=True, help="a new folder, or one whose attack was interrupted")
    require_signed(attack)
    attack.set_defaults(do=_attack)
    audit = commands.add_parser("audit", help="check a run for hidden gradients; exit code 1 where a check fails")
    audit.add_argument("run", type=run_folder, metavar="RUN", help="a run folder")
    audit.add_argument("--checkpoint", choices=["best", "last"], default="best", help="default: %(default)s")
    audit.add_argument("--images", type=positive, help="per surface (default: the run's metrics.check_images)")
    audit.add_argument("--surface", nargs="+", default=[], metavar="NAME", help="default: those of the run's figures")
    audit.add_argument("--full", action="store_true", help="every check, with 10,000 random draws: minutes")
    audit.add_argument("--device", default="cpu", help="such as cuda (default: %(default)s)")
    require_signed(audit)
    audit.set_defaults(do=_audit)
    sample = commands.add_parser("sample", help="write images of a run's trained generator")
    sample.add_argument("run", type=run_folder, metavar="RUN", help="a run folder")
    sample.add_argument("--n", type=positive, default=64, help="how many images (default: %(default)s)")
    sample.add_argument("--out", type=Path, required=True, help="a new or empty folder for PNG files")
    sample.add_argument("--class", dest="label", help="name or number of a class (default: all classes in turn)")
    sample.add_argument("--seed", type=int, default=0, help="of the latent codes (default: %(default)s)")
    sample.add_argument("--weights", choices=["ema", "raw"], default="ema", help="averaged or as trained")
    sample.add_argument("--checkpoint", choices=["best", "last"], default="best", help="default: %(default)s")
    sample.add_argument("--device", default="cpu", help="such as cuda (default: %(default)s)")
    require_signed(sample)
    sample.set_defaults(do=_sample)
    export = commands.add_parser("export", help="write a run's trained generator for others to use, with a model card")
    export.add_argument("run", type=run_folder, metavar="RUN", help="a run folder")
    export.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    export.add_argument(
        "--format", choices=["safetensors", "onnx", "torchscript"], default="safetensors", help="default: %(default)s"
    )
    export.add_argument("--weights", choices=["ema", "raw"], default="ema", help="averaged or as trained")
    export.add_argument("--checkpoint", choices=["best", "last"], default="best", help="default: %(default)s")
    export.add_argument("--license", help="identifier for the model card, such as mit (default: still to be chosen)")
    export.add_argument("--sign-with", metavar="KEY", help="sign a manifest of all its files by this key of the ring")
    add_ring(export)
    require_signed(export)
    export.set_defaults(do=_export)


def require_signed(parser: Parser) -> None:
    """The options of a command that loads a checkpoint which somebody else may have made."""
    parser.add_argument(
        "--require-signed", action="store_true", help="refuse a checkpoint that no trusted key has signed"
    )
    trusting(parser)


def signers(arguments: argparse.Namespace) -> "Trust | None":
    """Who must have signed the checkpoint; None where nobody must."""
    return trust_of(arguments) if arguments.require_signed or arguments.trust else None


def _report(arguments: argparse.Namespace) -> None:
    from securegan.reports.results import RunResults
    from securegan.reports.terminal import print_summary
    from securegan.reports.write import write_report

    print_summary(RunResults.load(arguments.run), write_report(arguments.run))


def _attack(arguments: argparse.Namespace) -> None:
    from securegan.installation import check_installation

    check_installation()
    from securegan.experiment import Experiment
    from securegan.runs.quiet import quieten

    quieten()
    trust = signers(arguments)
    with Experiment.attack_again(arguments.run, arguments.out, arguments.overrides, trust) as experiment:
        experiment.test()
        experiment.report()


def _audit(arguments: argparse.Namespace) -> None:
    from securegan.installation import check_installation

    check_installation()
    from securegan.release.intake import attach_gate
    from securegan.reports.results import Audit
    from securegan.reports.terminal import print_audit
    from securegan.runs.auditing import audit_run

    audit_run(
        arguments.run,
        which=arguments.checkpoint,
        images=arguments.images,
        names=arguments.surface,
        full=arguments.full,
        device=arguments.device,
        before_reading=attach_gate,
        trust=signers(arguments),
    )
    audit = Audit.load(arguments.run)
    assert audit is not None
    print_audit(audit, arguments.run)
    if audit.failed:
        sys.exit(1)


def _sample(arguments: argparse.Namespace) -> None:
    from securegan.installation import check_installation

    check_installation()
    from securegan.runs.sampling import class_of, load_module, moved, write_samples

    module = load_module(arguments.run, arguments.checkpoint, signers(arguments))
    label = None if arguments.label is None else class_of(module, arguments.label)
    moved(module, arguments.device)
    averaged = arguments.weights == "ema"
    write_samples(module, arguments.out, arguments.n, seed=arguments.seed, label=label, averaged=averaged)
    say(f"{arguments.n} images in {arguments.out}")


def _export(arguments: argparse.Namespace) -> None:
    from securegan.installation import check_installation

    check_installation()
    from securegan.runs.export import export_generator
    from securegan.security.keys.ring import KeyRing
    from securegan.security.provenance.signing import signer_of

    averaged, which, given = arguments.weights == "ema", arguments.checkpoint, arguments.license
    signer = (
        None
        if arguments.sign_with is None
        else signer_of(KeyRing.open(arguments.keys), arguments.sign_with, "checkpoint")
    )
    digest = export_generator(
        arguments.run,
        arguments.out,
        arguments.format,
        averaged=averaged,
        which=which,
        license=given,
        signer=signer,
        trust=signers(arguments),
    )
    say(f"the generator in {arguments.out}, its weights' sha256 {digest}")
