"""The release just made, verified as whoever receives it would: the summary that the run's report shows."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securegan.release.keys import PURPOSE, ReleaseKeys
from securegan.release.plan import FOLDERS
from securegan.release.release import Released
from securegan.runs.atomic import write_json
from securegan.security.envelope.files import SUFFIX as SEALED
from securegan.security.envelope.files import open_bytes
from securegan.security.envelope.recipients import Ring
from securegan.security.envelope.versions import Expected
from securegan.security.errors import PolicyError
from securegan.security.provenance import sidecar
from securegan.security.provenance.auditing import audit
from securegan.security.provenance.signing import PublicKey
from securegan.security.provenance.trust import Contents, Purpose, Trust, trusted_key

SUMMARY = "summary.json"  # in the release's folder
UNOPENED = "sealed for others"


def summarise(released: Released, out: Path, keys: ReleaseKeys) -> dict[str, Any]:
    """Verify every released image and the log, write ``summary.json`` and give what it says; it names no secret.

    Raises AuthenticationError or PolicyError where the log is not as it was signed.
    """
    trust = _trusting(keys)
    verdicts = Counter(_verdicts(out / FOLDERS["release"], keys, trust))
    found = audit(released.log, trust)
    counts = released.counts
    summary = {
        "images": counts.all,
        "released": counts.release,
        "review": counts.review,
        "rejected": counts.rejection,
        "verdicts": dict(sorted(verdicts.items())),
        "sealed_for": list(released.plan.recipients),
        "detectors": released.plan.detectors,
        "signer": keys.signer.kid,
        "model": released.plan.model,
        "log": {"origin": found.checkpoint.origin, "size": found.checkpoint.size, "root": found.checkpoint.root.hex()},
    }
    write_json(out / SUMMARY, summary)
    return summary


def _verdicts(folder: Path, keys: ReleaseKeys, trust: Trust) -> Iterator[str]:
    for path in folder.glob("[0-9]*.png"):
        yield sidecar.verify_file(path, trust).verdict.value
    for path in folder.glob(f"[0-9]*.png{SEALED}"):
        beside = path.with_name(path.name.removesuffix(SEALED) + sidecar.SUFFIX + SEALED)
        try:
            data, signed = (
                open_bytes(file.read_bytes(), [Ring(keys.ring)], Expected(purpose=PURPOSE)) for file in (path, beside)
            )
        except PolicyError:
            yield UNOPENED  # there is no key for them here
        else:
            yield sidecar.judge(data, signed, trust).verdict.value


def _trusting(keys: ReleaseKeys) -> Trust:
    """The release's own signer and the keeper of its log, and nobody else."""
    now, day = datetime.now(UTC), timedelta(days=1)
    since, until = now - 400 * day, now + day  # a release may have begun long ago
    purposes: dict[PublicKey, list[Purpose]] = {keys.signer.public: [PURPOSE]}
    purposes.setdefault(keys.keeper.public, []).append("log")
    entries = [trusted_key(key.kid, key, held, since, until) for key, held in purposes.items()]
    text = until.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Trust(Contents(name="release", version=1, time=entries[0].since, until=text, keys=entries))
