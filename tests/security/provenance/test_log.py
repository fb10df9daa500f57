"""The audit log: added to cheaply and by several, and never changed behind the back of who has seen it."""

import json
import multiprocessing
import os
import signal
import time
from base64 import b64decode, b64encode
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securegan.errors import UserError
from securegan.security.errors import AuthenticationError, PolicyError
from securegan.security.provenance.auditing import audit
from securegan.security.provenance.log import Entry, Log, read_entry
from securegan.security.provenance.memory import Memory
from securegan.security.provenance.merkle import leaf_hash, root_of
from securegan.security.provenance.note import Checkpoint, open_note, read_checkpoint, sign_note, verifier_key
from securegan.security.provenance.proofs import (
    check_consistency,
    check_inclusion,
    prove_consistency,
    prove_inclusion,
)
from securegan.security.provenance.signing import PublicKey, Signer
from securegan.security.provenance.trust import revoke

ORIGIN = "example.org/images"


def release(number: int) -> Entry:
    return Entry(kind="release", subject=f"{number:064x}", name=f"{number}.png", details={"seed": number})


@pytest.fixture
def log(tmp_path: Path, party) -> Log:
    log = Log.create(tmp_path / "log", ORIGIN, party.signer)
    log.append([release(number) for number in range(5)], party.signer)
    return log


def entries(log: Log, party) -> list[Entry]:
    found: list[Entry] = []
    audit(log, party.trust, see=lambda index, entry: found.append(entry))
    return found


def test_what_was_added_is_read_in_its_order(log: Log, party) -> None:
    log.append([Entry(kind="rejection", details={"why": "detector", "score": 7, "flagged": True})], party.signer)
    found = audit(log, party.trust)
    assert found.checkpoint.size == 6 and found.kinds == {"release": 5, "rejection": 1} and found.signer == party.key
    kept = entries(log, party)
    assert [entry.name for entry in kept[:5]] == [f"{number}.png" for number in range(5)]
    assert kept[5].details == {"why": "detector", "score": 7, "flagged": True} and kept[0].time <= kept[5].time
    lines = log.path.read_bytes().splitlines()
    assert found.checkpoint.root == root_of(map(leaf_hash, lines)) and json.loads(lines[0])["kind"] == "release"


def test_signed_note_published_example() -> None:
    """c2sp.org/signed-note: the example there."""
    text = (
        "This is an example message.\n\n"
        "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3"
        "mFXmRKuwHjG1Yu72IneyaQM=\n"
    )
    vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    key = PublicKey(b64decode(vkey.split("+")[2])[1:])
    assert verifier_key("example.com/foo", key) == vkey
    assert open_note(text.encode(), "example.com/foo", [key], "it") == ("This is an example message.\n", key)
    more = text + "— witness.example " + b64encode(bytes(76)).decode() + "\n"
    assert open_note(more.encode(), "example.com/foo", [key], "it")[1] == key  # unknown signatures are passed over
    for other in ("example.com/bar", "example.com/foo2"):
        with pytest.raises(AuthenticationError):
            open_note(text.encode(), other, [key], "it")


def test_every_byte_of_a_checkpoint_flipped_and_every_length_is_rejected(log: Log, party) -> None:
    data = log.checkpoint_path.read_bytes()
    keys = [party.signer.public]
    assert read_checkpoint(data, keys, "it")[0].size == 5
    for place in range(len(data)):
        for bit in (1, 4, 0x80):
            with pytest.raises(AuthenticationError):
                read_checkpoint(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :], keys, "it")
        with pytest.raises(AuthenticationError):
            read_checkpoint(data[:place], keys, "it")


def test_a_note_with_control_characters_is_refused_though_signed(party) -> None:
    """In what is signed, and in the lines of others' signatures, which no key vouches for."""
    keys = [party.signer.public]
    assert open_note(sign_note("text\n", ORIGIN, party.signer), ORIGIN, keys, "it")[0] == "text\n"
    others = sign_note("text\n", ORIGIN, party.signer) + "— a\x1b[2J AAAA\n".encode()
    for note in (sign_note("te\x1b[2Jxt\n", ORIGIN, party.signer), sign_note("te\0xt\n", ORIGIN, party.signer), others):
        with pytest.raises(AuthenticationError):
            open_note(note, ORIGIN, keys, "it")


@pytest.mark.parametrize(
    "text", [f"{ORIGIN}\n05\nROOT\n", f"{ORIGIN}\n+5\nROOT\n", f"{ORIGIN}\n5\nROOT\nmore\n", "a b\n5\nROOT\n"]
)
def test_checkpoints_in_another_form_are_refused_though_signed(text: str, party) -> None:
    whole = text.replace("ROOT", b64encode(bytes(32)).decode())
    name = whole.split("\n")[0]
    with pytest.raises(AuthenticationError):
        read_checkpoint(sign_note(whole, name, party.signer), [party.signer.public], "it")


def test_log_truncation_is_refused(log: Log, party, memory: Memory) -> None:
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(PolicyError, match="truncated to 4 entries, of 5 signed"):
        audit(log, party.trust)
    with pytest.raises(PolicyError, match="truncated"), log.writing(party.signer):
        pass
    log.path.write_bytes(b"".join(lines)[:-1])
    with pytest.raises(PolicyError, match="truncated"):
        audit(log, party.trust)


def test_log_truncation_with_its_older_checkpoint_is_refused_by_who_saw_the_newer(
    log: Log, party, memory: Memory
) -> None:
    """A bare chain of hashes misses this: everything left is as it was once signed."""
    old = log.path.read_bytes(), log.checkpoint_path.read_bytes()
    log.append([release(9)], party.signer)
    newer = audit(log, party.trust, memory).checkpoint
    log.path.write_bytes(old[0])
    log.checkpoint_path.write_bytes(old[1])
    assert audit(log, party.trust).checkpoint.size == 5  # to somebody who has seen nothing
    with pytest.raises(PolicyError, match="truncated to 5 entries, where 6 were signed before"):
        audit(log, party.trust, memory)
    with pytest.raises(PolicyError, match="truncated"):
        audit(log, party.trust, known=[newer])


def test_log_fork_is_refused(tmp_path: Path, log: Log, party, memory: Memory) -> None:
    """The keeper of the key shows one log to some and another to others: the same origin, well signed, longer."""
    seen = audit(log, party.trust, memory).checkpoint
    fork = Log.create(tmp_path / "fork", ORIGIN, party.signer)
    fork.append([release(number) for number in (0, 1, 2, 3, 7, 8, 9)], party.signer)
    assert audit(fork, party.trust).checkpoint.size == 7
    with pytest.raises(PolicyError, match="forked: its first 5 entries"):
        audit(fork, party.trust, memory)
    with pytest.raises(PolicyError, match="forked"):
        audit(fork, party.trust, known=[seen])
    with pytest.raises(UserError, match="does not go on"):
        prove_consistency(fork, party.trust, seen)
    with pytest.raises(PolicyError, match="two roots of 5"):
        audit(log, party.trust, known=[seen, Checkpoint(ORIGIN, 5, bytes(32))])
    with pytest.raises(PolicyError, match="is of the log another"):
        audit(log, party.trust, known=[Checkpoint("another", 5, bytes(32))])


def test_log_re_stamp_is_refused(log: Log, party, lab) -> None:
    """An entry given another time, or a checkpoint signed anew over it by a key that is not trusted for logs."""
    text = log.path.read_text()
    first = json.loads(text.splitlines()[0])["time"]
    log.path.write_text(text.replace(first, "2020-01-01T00:00:00Z", 1))
    with pytest.raises(PolicyError, match="not those that were signed"):
        audit(log, party.trust)
    log.append([release(6)], party.signer)  # a writer reads the last entry alone, and signs no other again
    with pytest.raises(PolicyError, match="not those that were signed"):
        audit(log, party.trust)
    (log.folder / "frontier.json").unlink()
    with pytest.raises(PolicyError, match="not those that were signed"), log.writing(party.signer):
        pass
    thief = Signer(b"t" * 32)
    forged = Checkpoint(ORIGIN, 6, root_of(leaf_hash(line) for line in log.path.read_bytes().splitlines()))
    log.checkpoint_path.write_bytes(forged.signed(thief))
    with pytest.raises(AuthenticationError):
        audit(log, party.trust)
    with pytest.raises(AuthenticationError), log.writing(party.signer):
        pass
    images_only = lab.party(purposes=["image"])
    log.checkpoint_path.write_bytes(forged.signed(party.signer))
    with pytest.raises(AuthenticationError):
        audit(log, images_only.trust)


def test_every_byte_of_a_log_flipped_is_rejected(log: Log, party) -> None:
    data = log.path.read_bytes()
    for place in range(0, len(data), 7):
        log.path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(PolicyError):
            audit(log, party.trust)


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind":"release","time":"2026-11-21T00:00:00Z","time":"2026-11-22T00:00:00Z"}',
        b'{"kind":"release","time":"2026-11-21T00:00:00Z","unknown":1}',
        b'{"kind":"party","time":"2026-11-21T00:00:00Z"}',
        b'{"time":"2026-11-21T00:00:00Z","kind":"release"}',
        b'{"kind":"release", "time":"2026-11-21T00:00:00Z"}',
        b'{"details":{"x":1.5},"kind":"release","time":"2026-11-21T00:00:00Z"}',
        b'{"kind":"release","time":"yesterday"}',
        b"[]",
        b"",
    ],
)
def test_entries_of_two_meanings_are_refused_though_signed(line: bytes, tmp_path: Path, party) -> None:
    log = Log.create(tmp_path / "log", ORIGIN, party.signer)
    log.path.write_bytes(line + b"\n")
    log.checkpoint_path.write_bytes(Checkpoint(ORIGIN, 1, root_of([leaf_hash(line)])).signed(party.signer))
    with pytest.raises(PolicyError, match="entry 0"):
        audit(log, party.trust)


def test_entries_run_forward_in_time(tmp_path: Path, party, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log dates what it is given; a clock set back does not turn it round, and a log so signed is refused."""
    log = Log.create(tmp_path / "log", ORIGIN, party.signer)
    log.append([Entry(kind="alert", time="2020-01-01T00:00:00Z")], party.signer)
    first = entries(log, party)[0].time
    assert first > "2026"
    monkeypatch.setattr("securegan.security.provenance.log.now", lambda: "2021-01-01T00:00:00Z")
    log.append([Entry(kind="alert")], party.signer)
    assert entries(log, party)[1].time == first
    lines = [Entry(kind="alert", time=f"202{year}-01-01T00:00:00Z").line() for year in (6, 5)]
    log.path.write_bytes(b"".join(line + b"\n" for line in lines))
    log.checkpoint_path.write_bytes(Checkpoint(ORIGIN, 2, root_of(map(leaf_hash, lines))).signed(party.signer))
    with pytest.raises(PolicyError, match="older than the one before"):
        audit(log, party.trust)


@pytest.mark.parametrize(
    "torn", [b'{"kind":"rel', b"\n", b'{"kind":"alert","time":"2026-11-21T00:00:00Z"}\n', b"\0" * 5000]
)
def test_what_a_killed_writer_left_is_laid_aside_and_noted(torn: bytes, log: Log, party) -> None:
    """Half a line and whole ones: nobody was told that they stand, and nobody knows who wrote them."""
    with log.path.open("ab") as file:
        file.write(torn)
    found = audit(log, party.trust)
    assert found.checkpoint.size == 5 and found.unsigned == len(torn)
    log.append([release(5)], party.signer)
    kept = entries(log, party)
    assert [entry.kind for entry in kept[5:]] == ["mended", "release"] and kept[5].details == {"bytes": len(torn)}
    assert (log.folder / "torn.txt").read_bytes() == torn + b"\n" and audit(log, party.trust).unsigned == 0


def test_a_writer_killed_between_the_entries_and_their_signature_leaves_a_sound_log(log: Log, party) -> None:
    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write() -> None:
        log._sign = die  # type: ignore[method-assign]
        log.append([release(5)], party.signer)

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL and audit(log, party.trust).unsigned > 0
    with log.writing(party.signer) as writer:
        assert writer.append_once(release(5)) == 6  # after the mending
    assert [entry.kind for entry in entries(log, party)] == ["release"] * 5 + ["mended", "release"]


def test_two_writers_at_once(tmp_path: Path, party) -> None:
    log = Log.create(tmp_path / "log", ORIGIN, party.signer)

    def write(first: int) -> None:
        own = Log(log.folder)
        for number in range(first, first + 15):
            with own.writing(party.signer) as writer:
                writer.append_once(release(number))

    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(first,)) for first in (0, 10)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(60)
        assert process.exitcode == 0
    kept = entries(log, party)
    assert sorted(int(entry.subject or "", 16) for entry in kept) == list(range(25))


def test_an_image_is_logged_once(log: Log, party) -> None:
    with log.writing(party.signer) as writer:
        assert writer.append_once(release(2)) is None and writer.append_once(release(7)) == 5
        assert writer.append_once(release(7)) is None and writer.size == 6
        assert writer.append_once(Entry(kind="review", subject=release(2).subject)) == 6
    with Log(log.folder).writing(party.signer) as writer:
        assert writer.append_once(release(7)) is None
    assert audit(log, party.trust).checkpoint.size == 7


def test_a_frontier_that_is_not_the_signed_one_is_not_believed(log: Log, party) -> None:
    kept = json.loads((log.folder / "frontier.json").read_text())
    lies = [
        kept | {"peaks": ["00" * 32] * len(kept["peaks"])}, kept | {"size": 4}, kept | {"end": kept["end"] - 10},
        kept | {"end": 0}, {}, [], "x", kept | {"peaks": 1}, kept | {"size": "5"}, kept | {"path": ["00" * 32]},
    ]  # fmt: skip
    for number, lie in enumerate(lies):
        (log.folder / "frontier.json").write_text(json.dumps(lie))
        log.append([release(10 + number)], party.signer)
        assert audit(log, party.trust).checkpoint.size == 6 + number
    assert "mended" not in {entry.kind for entry in entries(log, party)}


@pytest.mark.parametrize("line", [release(9).line(), b"no entry"])
def test_a_line_put_in_with_a_frontier_that_ends_after_it_is_laid_aside(line: bytes, log: Log, party) -> None:
    """Else the next writer would sign a log that never verifies."""
    for number in range(5, 9):  # of trees of several shapes
        kept = json.loads((log.folder / "frontier.json").read_text())
        with log.path.open("ab") as file:
            file.write(line + b"\n")
        (log.folder / "frontier.json").write_text(json.dumps(kept | {"end": kept["end"] + len(line) + 1}))
        log.append([release(number)], party.signer)
        assert audit(log, party.trust).kinds["mended"] == number - 4


def test_a_signed_log_that_ends_in_no_entry_is_refused(tmp_path: Path, party) -> None:
    log = Log.create(tmp_path / "log", ORIGIN, party.signer)
    log.path.write_bytes(b"no entry\n")
    log.checkpoint_path.write_bytes(Checkpoint(ORIGIN, 1, root_of([leaf_hash(b"no entry")])).signed(party.signer))
    with pytest.raises(PolicyError, match="its last entry"), log.writing(party.signer):
        pass


def test_appending_costs_the_same_to_a_long_log(tmp_path: Path, party) -> None:
    """10,000 entries: one more reads none of them, and hashes no more than the tree is high."""
    log = Log.create(tmp_path / "log", ORIGIN, party.signer)
    start = time.perf_counter()
    log.append([release(number) for number in range(10_000)], party.signer)
    together = time.perf_counter() - start
    size = log.path.stat().st_size
    log.path.chmod(0o600)
    with log.path.open("r+b") as file:  # were it read, it would be refused
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(b"!" if byte != b"!" else b"?")
    log.append([release(10_000)], party.signer)
    with log.path.open("r+b") as file:
        file.seek(100)
        file.write(byte)
    found = audit(log, party.trust)
    assert found.checkpoint.size == 10_001 and log.path.stat().st_size > size and together < 20


def test_inclusion_proofs(log: Log, party, lab) -> None:
    for index in range(5):
        proof = prove_inclusion(log, party.trust, index)
        proven = check_inclusion(proof, party.trust, "it")
        assert proven.entry.name == f"{index}.png" and (proven.index, proven.checkpoint.size) == (index, 5)
        for place in range(0, len(proof), 3):
            with pytest.raises(AuthenticationError):
                check_inclusion(proof[:place] + bytes([proof[place] ^ 1]) + proof[place + 1 :], party.trust, "it")
            with pytest.raises(AuthenticationError):
                check_inclusion(proof[:place], party.trust, "it")
        with pytest.raises(AuthenticationError):
            check_inclusion(proof, lab.party(seed=9).trust, "it")
    with pytest.raises(UserError, match="no entry 5: it has 5"):
        prove_inclusion(log, party.trust, 5)


def test_consistency_proofs(log: Log, party) -> None:
    old, _ = log.checkpoint([party.signer.public])
    for number in range(5, 12):
        log.append([release(number)], party.signer)
        proof = prove_consistency(log, party.trust, old)
        assert check_consistency(proof, party.trust, old, "it").size == number + 1
        with pytest.raises(AuthenticationError):
            check_consistency(proof, party.trust, Checkpoint(ORIGIN, 5, bytes(32)), "it")
        with pytest.raises(AuthenticationError):
            check_consistency(proof[:-1], party.trust, old, "it")
        with pytest.raises(AuthenticationError):  # the same tree, another log
            check_consistency(proof, party.trust, Checkpoint("example.org/others", 5, old.root), "it")


def test_proofs_by_a_revoked_key_are_refused(log: Log, party, lab) -> None:
    old, _ = log.checkpoint([party.signer.public])
    log.append([release(5)], party.signer)
    grown, held = prove_consistency(log, party.trust, old), prove_inclusion(log, party.trust, 5)
    assert check_consistency(grown, party.trust, old, "it", lab.now).size == 6
    for reason in ("superseded", "compromised"):
        revoked = lab.trust(*revoke([party.key], party.key.key.kid, reason, lab.start))
        with pytest.raises(PolicyError, match="which signed it, is revoked"):
            check_consistency(grown, revoked, old, "it", lab.now)
        with pytest.raises(PolicyError, match="which signed it, is revoked"):
            check_inclusion(held, revoked, "it")
    with pytest.raises(PolicyError, match="is expired"):
        check_consistency(grown, party.trust, old, "it", lab.end + timedelta(days=1))


def test_a_log_whose_key_was_revoked_is_refused(log: Log, party, lab) -> None:
    stolen = lab.trust(*revoke([party.key], party.key.key.kid, "compromised", lab.start))
    with pytest.raises(PolicyError, match="which signed it, is revoked"):
        audit(log, stolen)


def test_a_log_is_made_once_and_its_name_is_one(tmp_path: Path, party) -> None:
    Log.create(tmp_path / "log", ORIGIN, party.signer)
    with pytest.raises(UserError, match="cannot be made"):
        Log.create(tmp_path / "log", ORIGIN, party.signer)
    for name in ("", "two words", "a+b", "line\nbreak", "a\x9b2J"):
        with pytest.raises(UserError, match="cannot be named"):
            Log.create(tmp_path / "other", name, party.signer)
    with pytest.raises(UserError, match="cannot be"), Log(tmp_path / "none").writing(party.signer):
        pass


@given(st.binary(max_size=200))
def test_fuzz_any_line_checkpoint_or_proof_is_read_or_refused(data: bytes) -> None:
    signer = Signer(b"f" * 32)
    with pytest.raises(ValueError):
        read_entry(data)
    with pytest.raises(AuthenticationError):
        read_checkpoint(data, [signer.public], "it")
    text = data.decode("utf-8", "replace").replace("\n\n", "\n")
    try:
        found, _ = read_checkpoint(sign_note(f"{text}\n", text.split("\n")[0], signer), [signer.public], "it")
    except AuthenticationError:
        return
    assert text.startswith(f"{found.origin}\n{found.size}\n")
