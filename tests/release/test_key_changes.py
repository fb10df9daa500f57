"""Keys that change, expire or are revoked while a release is made, and logs that lose their own."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from securegan.errors import UserError
from securegan.release.keys import ReleaseKeys
from securegan.release.release import Order, Released, Source, release
from securegan.release.verification import summarise
from securegan.runs.sampling import load_watched
from securegan.security.envelope.files import read_header
from securegan.security.errors import PolicyError
from securegan.security.provenance.auditing import audit
from securegan.security.provenance.log import Entry, Log, read_entry
from securegan.security.provenance.signing import Signer

Office = Any
Make = Callable[..., Released]


@pytest.fixture
def make(run: Path, tmp_path: Path, office: Office) -> Make:
    """``make(n, sign_with=..., log_with=..., encrypt_to=..., log=..., progress=...)`` into ``tmp_path / out``."""
    found = load_watched(run)
    source = Source.of(found.folder, found.entry)

    def go(
        n: int,
        *,
        sign_with: str = "release",
        log_with: str | None = None,
        encrypt_to: tuple[str, ...] = (),
        **more: Any,
    ) -> Released:
        keys = ReleaseKeys.find(None, sign_with, encrypt_to, log_with)
        return release(
            found.module, found.detectors, source, tmp_path / "out", n, keys, Order(on_flagged="reject"), **more
        )

    return go


def told(released: Released, tmp_path: Path, **keys: Any) -> dict[str, Any]:
    return summarise(released, tmp_path / "out", ReleaseKeys.find(None, keys.pop("sign_with", "release"), **keys))


def entries_of(log: Log, *keys: Signer) -> list[Entry]:
    return [read_entry(line) for line in log.lines(log.checkpoint([key.public for key in keys])[0])]


def signer(office: Office, name: str) -> Signer:
    return Signer(office.ring.secret(office.ring.find(name)))


def test_a_key_rotated_within_a_release_verifies_in_its_summary(make: Make, tmp_path: Path, office: Office) -> None:
    make(12)
    rotated = office.ring.rotate("release")
    summary = told(make(40), tmp_path)
    assert set(summary["verdicts"]) == {"byte-exact"} and summary["verdicts"]["byte-exact"] == summary["released"]
    assert summary["signers"] == [office.signing.kid, rotated.kid] and summary["signer"] == rotated.kid
    entries = entries_of(Log(tmp_path / "out" / "log"), signer(office, "release"))
    changes = [(index, e.details["signs"], e.details["kid"]) for index, e in enumerate(entries) if e.kind == "key"]
    old, new = office.signing.kid, rotated.kid
    assert changes == [(1, "images", old), (2, "log", old), (15, "images", new), (16, "log", new)]
    assert told(make(40), tmp_path) == summary  # nothing is said twice


def test_a_rotation_after_the_last_image_verifies_too(make: Make, tmp_path: Path, office: Office) -> None:
    make(12)
    office.ring.rotate("release")
    assert set(told(make(12), tmp_path)["verdicts"]) == {"byte-exact"}


def test_what_a_compromised_key_signed_is_not_told_as_sound(make: Make, tmp_path: Path, office: Office) -> None:
    office.ring.new("keeper", "ed25519", ["log"])
    first = make(12, log_with="keeper").counts.release
    office.ring.revoke("release", "compromised")
    office.ring.new("release", "ed25519")
    verdicts = told(make(40, log_with="keeper"), tmp_path, log_with="keeper")["verdicts"]
    assert verdicts["revoked"] == first and verdicts["byte-exact"] > 0


def test_a_sidecar_by_a_key_that_the_log_does_not_name_is_told(make: Make, tmp_path: Path, office: Office) -> None:
    from securegan.security.provenance import sidecar
    from securegan.security.provenance.statement import ImageOrigin

    released = make(12)
    office.ring.new("other", "ed25519")
    image = next((tmp_path / "out" / "images").glob("*.png"))
    sidecar.sign_file(image, signer(office, "other"), ImageOrigin())
    assert told(released, tmp_path)["verdicts"]["unknown signer"] == 1


@pytest.mark.parametrize("shared", [False, True])
def test_a_log_does_not_go_over_to_a_key_of_another_name(
    make: Make, tmp_path: Path, office: Office, shared: bool
) -> None:
    office.ring.new("keeper", "ed25519", ["log"])
    more = {"log": tmp_path / "shared"} if shared else {}
    make(5, log_with="keeper", **more)
    with pytest.raises(UserError, match=r"is under the key keeper .* not release .*--log-with"):
        make(8, **more)
    office.ring.rotate("keeper")
    assert make(8, log_with="keeper", **more).counts.all == 8


def test_a_release_whose_log_is_gone_does_not_begin_anew(make: Make, tmp_path: Path) -> None:
    make(12)
    out = tmp_path / "out"
    before = {path: path.read_bytes() for path in (out / "images").iterdir()}
    shutil.rmtree(out / "log")
    with pytest.raises(UserError, match=r"\.png.* is there, but the log .* is missing"):
        make(40)
    assert {path: path.read_bytes() for path in (out / "images").iterdir()} == before and not (out / "log").exists()


def test_the_log_of_another_release_is_not_taken_for_its_own(make: Make, tmp_path: Path) -> None:
    make(5)
    shutil.move(tmp_path / "out", tmp_path / "other")
    make(5)
    out = tmp_path / "out"
    shutil.rmtree(out / "log")
    shutil.copytree(tmp_path / "other" / "log", out / "log")
    with pytest.raises(UserError, match="is the log securegan/release/"):
        make(8)


@pytest.mark.parametrize("n", [64, 100])
@pytest.mark.parametrize("what", ["revoked", "rotated", "expired", "reader revoked"])
def test_a_key_that_ends_meanwhile_ends_the_release(
    make: Make, tmp_path: Path, office: Office, monkeypatch: pytest.MonkeyPatch, what: str, n: int
) -> None:
    sealed = {"encrypt_to": ("reader",)} if what == "reader revoked" else {}
    if what == "expired":
        office.ring.revoke("release", "superseded")
        office.ring.new("release", "ed25519", expires=datetime.now(UTC) + timedelta(days=1))

    def end(done: int) -> None:
        if done != 32:
            return
        if what == "expired":
            later = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
            monkeypatch.setattr("securegan.security.keys.key.now", lambda: later)
        elif what == "rotated":
            office.ring.rotate("release")
        else:
            office.ring.revoke("release" if what == "revoked" else "reader", "compromised")

    with pytest.raises(UserError, match=r"(revoked on|signs no more|expired on).*; the 32 images done so far are kept"):
        make(n, progress=end, **sealed)
    log = Log(tmp_path / "out" / "log")
    keys = [Signer(office.ring.secret(key)) for key in office.ring if key.kind == "ed25519"]
    numbers = [e.details["number"] for e in entries_of(log, *keys) if e.kind in ("release", "rejection")]
    assert numbers == list(range(32))
    if what == "rotated":
        assert set(told(make(n), tmp_path)["verdicts"]) == {"byte-exact"}


@pytest.mark.parametrize(("averaged", "weights"), [(True, "averaged"), (False, "raw")])
def test_which_weights_made_it_stands_in_sidecar_and_log(
    run: Path, tmp_path: Path, office: Office, averaged: bool, weights: str
) -> None:
    from securegan.security.provenance.sidecar import verify_file

    found = load_watched(run)
    keys, order = ReleaseKeys.find(None, "release"), Order(averaged=averaged, on_flagged="reject")
    source = Source.of(found.folder, found.entry)
    released = release(found.module, found.detectors, source, tmp_path / "out", 5, keys, order)
    for path in (tmp_path / "out" / "images").glob("*.png"):
        origin = verify_file(path, office.trust()).origin
        assert origin is not None and origin.weights == weights
    entries: list[Entry] = []
    audit(released.log, office.trust(), see=lambda index, entry: entries.append(entry))
    assert entries[0].kind == "training" and entries[0].details["weights"] == weights


def test_a_seed_that_no_statement_holds_is_one_sentence(make: Make, run: Path, tmp_path: Path, office: Office) -> None:
    found = load_watched(run)
    source = Source.of(found.folder, found.entry)
    with pytest.raises(UserError, match="a release cannot be of that: seed"):
        release(
            found.module,
            found.detectors,
            source,
            tmp_path / "o",
            5,
            ReleaseKeys.find(None, "release"),
            Order(seed=2**70),
        )


@pytest.mark.parametrize("what", ["older", "forked", "another"])
def test_a_log_exchanged_within_a_release_ends_it(make: Make, tmp_path: Path, office: Office, what: str) -> None:
    make(3)
    log = tmp_path / "out" / "log"
    older = Path(shutil.copytree(log, tmp_path / "older"))

    def exchange(done: int) -> None:
        if done != 32:
            return
        shutil.rmtree(log)
        if what == "another":
            Log.create(log, "another", office.signer)
        else:
            shutil.copytree(older, log)
        if what == "forked":
            Log(log).append([Entry(kind="alert", details={}) for _ in range(60)], office.signer)

    with pytest.raises(UserError, match=r"does not go on from the \d+ entries that this process knows") as told:
        make(100, progress=exchange)
    assert str(told.value).count(". ") == 0


def test_what_others_add_to_a_shared_log_meanwhile_is_gone_on_from(make: Make, tmp_path: Path, office: Office) -> None:
    shared = tmp_path / "shared"

    def add(done: int) -> None:
        if done:
            Log(shared).append([Entry(kind="alert", details={}), Entry(kind="alert", details={})], office.signer)

    assert make(100, log=shared, progress=add).counts.all == 100
    assert make(101, log=shared).counts.all == 101


@pytest.mark.parametrize("own", [False, True])
def test_a_log_that_is_not_there_is_not_begun_for_a_release_that_was(make: Make, tmp_path: Path, own: bool) -> None:
    make(5, **({} if own else {"log": tmp_path / "shared"}))
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    told = "has a log of its own: leave --log out" if own else "name its folder with --log, or restore it"
    with pytest.raises(UserError, match=told):
        make(8, log=tmp_path / "sharde")
    if not own:
        shutil.rmtree(tmp_path / "shared")
        with pytest.raises(UserError, match=told):
            make(8, log=tmp_path / "shared")
    assert not (tmp_path / "sharde").exists() and (own or not (tmp_path / "shared").exists())
    assert all(path.read_bytes() == data for path, data in kept.items() if path.exists())


def test_a_log_is_not_begun_for_a_folder_that_cannot_be_used(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        make(5, log=tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


def recipients_in(entries: list[Entry]) -> list[list[str]]:
    """Those that the training entry names, and every change."""
    told = [[str(v) for k, v in e.details.items() if k.startswith("recipient ")] for e in entries]
    return [kids for kids in told if kids]


@pytest.mark.parametrize("revoked", [False, True])
def test_a_sealed_release_goes_on_under_the_newest_key_of_its_reader(
    make: Make, tmp_path: Path, office: Office, revoked: bool
) -> None:
    sealed = {"encrypt_to": ("reader",)}
    old = office.ring.find("reader")
    make(12, **sealed)
    if revoked:
        office.ring.revoke("reader", "compromised")
        new = office.ring.new("reader", "x25519")
    else:
        new = office.ring.rotate("reader")
    with pytest.raises(PolicyError, match=r"was revoked|only opens what it sealed once"):
        make(20, encrypt_to=(old.kid,))
    assert make(20, **sealed).counts.all == make(20, **sealed).counts.all == 20
    for path in (tmp_path / "out" / "images").iterdir():
        wanted = old if int(path.name[:6]) < 12 else new
        assert [stanza.kid for stanza in read_header(path).stanzas] == [wanted.kid]
    entries = entries_of(Log(tmp_path / "out" / "log"), signer(office, "release"))
    assert recipients_in(entries) == [[old.kid], [new.kid]]
    office.ring.new("other", "x25519")
    for encrypt_to in (("other",), ("reader", "other"), ()):
        with pytest.raises(UserError, match="holds a release with recipients"):
            make(22, encrypt_to=encrypt_to)


@pytest.mark.parametrize("how", ["before", "meanwhile"])
def test_a_reader_given_as_a_file_is_looked_up_in_the_ring(
    make: Make, tmp_path: Path, office: Office, how: str
) -> None:
    pem = tmp_path / "reader.pem"
    pem.write_text(office.ring.find("reader").pem)
    if how == "before":
        office.ring.revoke("reader", "compromised")

    def end(done: int) -> None:
        if done == 32:
            office.ring.revoke("reader", "compromised")

    with pytest.raises(UserError, match=r"key reader .* was revoked on .* \(compromised\)"):
        make(100, encrypt_to=(str(pem),), progress=end)
    assert (tmp_path / "out").exists() == (how == "meanwhile")


def test_a_log_under_a_compromised_key_says_why_it_is_refused(make: Make, tmp_path: Path, office: Office) -> None:
    office.ring.new("keeper", "ed25519", ["log"])
    make(12, log_with="keeper")
    office.ring.revoke("keeper", "compromised")
    office.ring.new("keeper", "ed25519", ["log"])
    with pytest.raises(PolicyError, match=r"under the key keeper .* was revoked on .* \(compromised\).* another --out"):
        make(20, log_with="keeper")


@pytest.mark.parametrize("how", ["renamed", "altered", "of another release"])
def test_sealed_pairs_in_the_place_of_others_are_told_as_refused(
    make: Make, tmp_path: Path, office: Office, how: str
) -> None:
    sealed = {"encrypt_to": ("reader",)}
    if how == "of another release":
        make(12, **sealed)
        (tmp_path / "out").rename(tmp_path / "other")
    released = make(12, **sealed)
    first, second, third = sorted((tmp_path / "out" / "images").glob("*.png.sge"))[:3]
    for path in (second, second.with_name(second.name.replace(".sge", ".sg.json.sge"))):
        source = path.with_name(path.name.replace(second.name[:6], third.name[:6]))
        if how == "of another release":
            source = tmp_path / "other" / "images" / path.name
        data = source.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if how == "altered" else data)
    verdicts = told(released, tmp_path, **sealed)["verdicts"]
    assert first.exists() and verdicts == {"refused": 1, "byte-exact": released.counts.release - 1}
