"""The release just made, verified as whoever receives it would: the summary that the run's report shows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from securegan.release.finishing import object_of
from securegan.release.keys import PURPOSE, ReleaseKeys
from securegan.release.plan import FOLDERS, Plan
from securegan.release.record import Record
from securegan.release.release import Released
from securegan.runs.atomic import write_json
from securegan.security.envelope.files import SUFFIX as SEALED
from securegan.security.envelope.files import open_bytes, read_header
from securegan.security.envelope.recipients import Ring
from securegan.security.envelope.versions import Expected
from securegan.security.errors import AuthenticationError, PolicyError
from securegan.security.provenance import sidecar
from securegan.security.provenance.auditing import audit
from securegan.security.provenance.files import MAX_IMAGE, read_given
from securegan.security.provenance.log import Entry
from securegan.security.provenance.signing import PublicKey
from securegan.security.provenance.trust import Contents, Purpose, Revocation, Trust, TrustedKey, trusted_key
from securegan.security.provenance.verdicts import Verdict
from securegan.security.spelling import as_text

SUMMARY = "summary.json"  # in the release's folder
UNOPENED = "sealed for others"


def summarise(released: Released, out: Path, keys: ReleaseKeys) -> dict[str, Any]:
    """Verify every released image and the log, write ``summary.json`` and give what it says; it names no secret.

    Raises AuthenticationError or PolicyError where the log is not as it was signed.
    """
    record, counts = Record(released.plan), released.counts

    def see(index: int, entry: Entry) -> None:
        if entry.details.get("release") == released.plan.id:
            record.see(entry)

    found = audit(released.log, _trusting(keys, ()), see=see)
    record.require_whole(out)
    signers = [*dict.fromkeys([*record.keys["images"], *record.keys["approvals"]])]
    verdicts = Counter(_verdicts(out / FOLDERS["release"], released.plan, keys, _trusting(keys, signers)))
    summary = {
        "images": counts.all,
        "released": counts.release,
        "review": counts.review,
        "rejected": counts.rejection,
        "verdicts": dict(sorted(verdicts.items())),
        "sealed_for": list(released.plan.recipients),
        "detectors": released.plan.detectors,
        "signer": keys.signer.kid,
        "signers": [key.kid for key in signers],
        "model": released.plan.model,
        "log": {"origin": found.checkpoint.origin, "size": found.checkpoint.size, "root": found.checkpoint.root.hex()},
    }
    write_json(out / SUMMARY, summary)
    return summary


def _verdicts(folder: Path, plan: Plan, keys: ReleaseKeys, trust: Trust) -> Iterator[str]:
    for path in folder.glob("[0-9]*.png"):
        yield sidecar.verify_file(path, trust).verdict.value
    for path in folder.glob(f"[0-9]*.png{SEALED}"):
        beside = path.with_name(path.name.removesuffix(SEALED) + sidecar.SUFFIX + SEALED)
        try:
            contents = [read_given(file, MAX_IMAGE, "the file") for file in (path, beside)]
            if any(
                read_header(BytesIO(content)).facts.object_id != object_of(plan, file.name.removesuffix(SEALED))
                for content, file in zip(contents, (path, beside), strict=True)
            ):
                yield Verdict.REFUSED.value  # another file's, or another release's
                continue
            data, signed = (open_bytes(content, [Ring(keys.ring)], Expected(purpose=PURPOSE)) for content in contents)
        except AuthenticationError:
            yield Verdict.REFUSED.value
        except PolicyError:
            yield UNOPENED  # there is no key for them here
        else:
            yield sidecar.judge(data, signed, trust).verdict.value


def _trusting(keys: ReleaseKeys, signers: Sequence[PublicKey]) -> Trust:
    """Those whom the log names as signers of the release, and the keeper of the log; nobody else."""
    since, until = datetime(2000, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)
    purposes: dict[PublicKey, list[Purpose]] = {key: [PURPOSE] for key in signers}
    purposes.setdefault(keys.keeper.public, []).append("log")
    entries = [_unless_stolen(trusted_key(key.kid, key, held, since, until), keys) for key, held in purposes.items()]
    text = as_text(until)
    return Trust(Contents(name="release", version=1, time=entries[0].since, until=text, keys=entries))


def _unless_stolen(key: TrustedKey, keys: ReleaseKeys) -> TrustedKey:
    """A key that the ring holds for compromised signs nothing that counts, whenever it did."""
    for held in keys.ring:
        if held.kid == key.key.kid and held.reason == "compromised" and held.revoked_at is not None:
            at = as_text(held.revoked_at)
            return key.model_copy(update={"revoked": Revocation(reason="compromised", at=at)})
    return key
