"""What leaves a run and what enters one: ``release`` and ``intake``."""

import argparse
import re
import sys
from dataclasses import asdict
from pathlib import Path

from securegan.cli.envelopes import add_opening, opening
from securegan.cli.keys import add_ring
from securegan.cli.parser import Commands, Parser, positive, run_folder
from securegan.cli.provenance.options import trusting
from securegan.cli.runs import require_signed, signers
from securegan.cli.terminal import say
from securegan.errors import UserError


def add(commands: Commands) -> None:
    """The commands of this module."""
    release = commands.add_parser(
        "release",
        help="write images of a run's generator for others: screened, signed, logged and, if asked, sealed",
        epilog="The same command goes on where an interrupted one stopped, or to a larger --n.",
    )
    release.add_argument("run", type=run_folder, metavar="RUN", help="a run folder")
    release.add_argument("--n", type=positive, required=True, help="images sampled, those that are flagged included")
    release.add_argument("--out", type=Path, required=True, help="a new or empty folder, or one to go on with")
    release.add_argument(
        "--encrypt-to", nargs="+", default=[], metavar="KEY", help="keys of the ring, or PEM files of X25519 keys"
    )
    _add_keys(release)
    release.add_argument(
        "--on-flagged",
        choices=["review", "reject"],
        default="review",
        help="images that the run's detectors flag are laid in OUT/review, or not written (default: %(default)s)",
    )
    release.add_argument("--class", dest="label", help="name or number of a class (default: all classes in turn)")
    release.add_argument("--seed", type=int, default=0, help="of the latent codes (default: %(default)s)")
    release.add_argument("--weights", choices=["ema", "raw"], default="ema", help="averaged or as trained")
    release.add_argument("--checkpoint", choices=["best", "last"], default="best", help="default: %(default)s")
    release.add_argument("--device", default="cpu", help="such as cuda (default: %(default)s)")
    require_signed(release)
    release.set_defaults(do=_release)
    approve = commands.add_parser(
        "approve",
        help="release images that were laid aside for review",
        epilog="Killed, or given again, the same command ends what it began.",
    )
    approve.add_argument("folder", type=Path, metavar="DIR", help="a release's folder")
    approve.add_argument("numbers", type=_number, nargs="+", metavar="NUMBER", help="of images in DIR/review")
    approve.add_argument(
        "--encrypt-to", nargs="+", default=[], metavar="KEY", help="as given to release, where the ring has not all"
    )
    _add_keys(approve)
    add_opening(approve)
    approve.set_defaults(do=_approve)
    intake = commands.add_parser(
        "intake", help="judge images from outside before they are used; exit code 1 where one is refused"
    )
    intake.add_argument("paths", type=Path, nargs="*", metavar="PATH", help="images, folders or zip files of images")
    intake.add_argument("--run", type=run_folder, metavar="RUN", help="whose images are usual")
    intake.add_argument(
        "--false-positive-rate",
        type=_rate,
        default=0.01,
        metavar="RATE",
        help="share of clean images like the run's that are refused as unusual (default: %(default)s)",
    )
    intake.add_argument("--max-bytes", type=positive, help="of a file (default: 32 MiB)")
    intake.add_argument("--max-pixels", type=positive, help="of an image (default: 16 million)")
    intake.add_argument("--json", action="store_true", help="a line of JSON for each image instead of a table")
    intake.add_argument(
        "--audit", action="store_true", help="measure what the run's gate keeps out, adaptive adversaries included"
    )
    intake.add_argument(
        "--surrogate",
        type=Path,
        metavar="RUN",
        help="with --audit: another run on images of the same size, through whose gate an adversary without this one "
        "searches",
    )
    intake.add_argument(
        "--require-signed", action="store_true", help="refuse images, and a run, that no trusted key has signed"
    )
    trusting(intake)
    intake.set_defaults(do=_intake)


def _add_keys(parser: Parser) -> None:
    """Who signs, and where it is logged."""
    parser.add_argument("--sign-with", default="release", metavar="KEY", help="default: the key named %(default)s")
    parser.add_argument("--log-with", metavar="KEY", help="signs the log (default: the same key)")
    add_ring(parser)
    parser.add_argument(
        "--log", type=Path, metavar="FOLDER", help="of several releases (default: log in the release's folder)"
    )


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise argparse.ArgumentTypeError(f"{text} is not the number of an image")
    return int(text)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a rate between 0 and 1")
    return value


def _release(arguments: argparse.Namespace) -> None:
    from securegan.release.keys import ReleaseKeys

    # before torch is loaded
    keys, trust = (
        ReleaseKeys.find(arguments.keys, arguments.sign_with, arguments.encrypt_to, arguments.log_with),
        signers(arguments),
    )
    from securegan.installation import check_installation

    check_installation()
    from rich.console import Console
    from rich.progress import Progress

    from securegan.release.release import Order, Source, release
    from securegan.release.summary import print_release
    from securegan.runs.sampling import class_of, load_watched, moved

    found = load_watched(arguments.run, arguments.checkpoint, trust)
    module = moved(found.module, arguments.device)
    label = None if arguments.label is None else class_of(module, arguments.label)
    order = Order(arguments.seed, label, arguments.weights == "ema", arguments.on_flagged)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("releasing", total=arguments.n)
        released = release(
            module,
            found.detectors,
            Source.of(found.folder, found.entry),
            arguments.out,
            arguments.n,
            keys,
            order,
            log=arguments.log,
            progress=lambda done: bar.update(task, completed=done),
        )
    print_release(released, arguments.out)


def _approve(arguments: argparse.Namespace) -> None:
    from securegan.installation import check_installation
    from securegan.release.keys import ReleaseKeys, recipients_of
    from securegan.release.plan import PLAN, read_plan
    from securegan.security.keys.ring import KeyRing

    kids = read_plan(arguments.folder / PLAN).recipients
    to = arguments.encrypt_to or recipients_of(KeyRing.open(arguments.keys), kids)
    keys = ReleaseKeys.find(arguments.keys, arguments.sign_with, to, arguments.log_with)
    check_installation()
    from securegan.release.approval import approve

    identities = opening(arguments, keys.ring)
    new = approve(arguments.folder, arguments.numbers, keys, identities, arguments.log)
    before = len(set(arguments.numbers)) - len(new)
    also = f" ({before} approved before)" if before else ""
    count = f"{len(new)} image{'' if len(new) == 1 else 's'}"
    say(f"{count} approved by {keys.ring.find(keys.signer.kid)}, now in {arguments.folder / 'images'}{also}")


def _intake(arguments: argparse.Namespace) -> None:
    if arguments.audit and (arguments.run is None or arguments.paths):
        raise UserError("--audit measures the gate of a run on the run's own data: give --run RUN and no PATH.")
    if arguments.surrogate is not None and not arguments.audit:
        raise UserError("--surrogate is for --audit alone: no image is judged by it.")
    if not arguments.audit and not arguments.paths:
        raise UserError("nothing to judge: give images, folders or zip files.")
    trust = signers(arguments)
    if arguments.run is None and trust is None:
        raise UserError("give --run RUN, whose images are usual, or --require-signed, or both.")
    from securegan.installation import check_installation

    check_installation()
    from securegan.release.intake import MAX_BYTES, MAX_PIXELS, Limits, open_gate
    from securegan.release.intake_audit import audit_run
    from securegan.release.intake_paths import judged
    from securegan.release.summary import print_findings, print_passed
    from securegan.runs.atomic import as_json

    if arguments.audit:
        rate, other = arguments.false_positive_rate, arguments.surrogate
        print_passed(audit_run(arguments.run, rate, trust=trust, surrogate=other), json=arguments.json)
        return
    gate = open_gate(
        arguments.run,
        false_positive_rate=arguments.false_positive_rate,
        trust=trust,
        require_signed=arguments.require_signed,
        limits=Limits(arguments.max_bytes or MAX_BYTES, arguments.max_pixels or MAX_PIXELS),
    )
    findings = judged(gate, arguments.paths)
    if arguments.json:
        accepted = True
        for finding in findings:
            sys.stdout.write(as_json(asdict(finding)) + "\n")
            accepted &= finding.accepted
    else:
        accepted = print_findings(findings)
    if not accepted:
        sys.exit(1)
