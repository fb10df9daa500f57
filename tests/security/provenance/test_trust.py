"""The trust store: only its root changes it, and nobody turns it back."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securegan.errors import UserError
from securegan.security.errors import AuthenticationError, PolicyError
from securegan.security.provenance import dsse, strict_json
from securegan.security.provenance.memory import Memory
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.trust import (
    KIND,
    TrustedKey,
    change_store,
    new_store,
    read_store,
    revoke,
    trusted_key,
)
from securegan.security.spelling import TIME

ROOT, OTHER = Signer(b"r" * 32), Signer(b"o" * 32)


@pytest.fixture
def path(tmp_path: Path, memory: Memory) -> Path:
    """A store of version 2 with one key."""
    new_store(tmp_path / "store.json", "lab", ROOT, memory)
    change_store(tmp_path / "store.json", ROOT, memory, lambda keys: [*keys, fresh("release")])
    return tmp_path / "store.json"


def fresh(name: str, seed: bytes = b"s") -> TrustedKey:
    start = datetime.now(UTC)
    return trusted_key(name, Signer(seed * 32).public, ["image"], start, start + timedelta(days=30))


def test_a_store_is_read_as_it_was_written(path: Path, memory: Memory) -> None:
    trust = read_store(path, memory)
    assert (trust.contents.name, trust.contents.version) == ("lab", 2)
    assert trust.find("release") is trust.find(Signer(b"s" * 32).kid[:8]) is trust.keys[Signer(b"s" * 32).kid]
    with pytest.raises(UserError, match="'nobody' names no keys"):
        trust.find("nobody")


def test_every_byte_of_a_store_flipped_and_every_length_is_rejected(path: Path, memory: Memory) -> None:
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises((AuthenticationError, PolicyError)):
            read_store(path, memory)
        path.write_bytes(data[:place])
        with pytest.raises(AuthenticationError):
            read_store(path, memory)


def test_trust_store_rollback_is_refused(path: Path, memory: Memory, tmp_path: Path) -> None:
    """The store from before a revocation is well signed, but a newer one has been seen."""
    before = path.read_bytes()
    kid = Signer(b"s" * 32).kid
    change_store(path, ROOT, memory, lambda keys: revoke(keys, kid, "compromised", datetime.now(UTC)))
    assert read_store(path, memory).keys[kid].revoked is not None
    after = path.read_bytes()
    path.write_bytes(before)
    for _ in range(2):
        with pytest.raises(PolicyError, match="version 2, where 3 was seen"):
            read_store(path, memory)
    stranger = Memory(tmp_path / "elsewhere")  # who has seen neither, and believes the root
    assert read_store(path, stranger, ROOT.public).contents.version == 2
    path.write_bytes(after)
    assert read_store(path, stranger, ROOT.public).contents.version == 3
    path.write_bytes(before)
    with pytest.raises(PolicyError, match="was seen"):
        read_store(path, stranger, ROOT.public)


def test_two_stores_of_one_version_are_refused(path: Path, memory: Memory, tmp_path: Path) -> None:
    read_store(path, memory)
    elsewhere = Memory(tmp_path / "elsewhere")
    other = tmp_path / "other.json"
    new_store(other, "lab", ROOT, elsewhere)
    change_store(other, ROOT, elsewhere, lambda keys: [*keys, fresh("release", b"t")])
    with pytest.raises(PolicyError, match="another one of version 2"):
        read_store(other, memory)


def test_a_root_that_is_not_pinned_is_refused(path: Path, tmp_path: Path) -> None:
    stranger = Memory(tmp_path / "elsewhere")
    with pytest.raises(PolicyError, match=f"its root {ROOT.kid} is not pinned here"):
        read_store(path, stranger)
    with pytest.raises(AuthenticationError):
        read_store(path, stranger, OTHER.public)
    stranger.pin(OTHER.public)
    with pytest.raises(PolicyError, match="not pinned"):
        read_store(path, stranger)
    assert not (stranger.folder / "store.json").exists()


def test_only_the_root_changes_a_store(path: Path, memory: Memory) -> None:
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"under the root {ROOT.kid}"):
        change_store(path, OTHER, memory, lambda keys: list(keys))
    with pytest.raises(UserError, match="stands twice"):
        change_store(path, ROOT, memory, lambda keys: [*keys, *keys])
    with pytest.raises(UserError, match="the root among the keys"):
        start = datetime.now(UTC)
        root = trusted_key("root", ROOT.public, ["image"], start, start + timedelta(days=1))
        change_store(path, ROOT, memory, lambda keys: [*keys, root])
    with pytest.raises(UserError, match="exists"):
        new_store(path, "lab", ROOT, memory)
    assert path.read_bytes() == before


def test_two_who_change_a_store_at_once_lose_nothing(path: Path, memory: Memory) -> None:
    """A revocation made while another change was under way."""
    kid, late = Signer(b"s" * 32).kid, datetime.now(UTC)
    other = Thread(target=change_store, args=(path, ROOT, memory, lambda keys: revoke(keys, kid, "compromised", late)))

    def slowly(keys: Sequence[TrustedKey]) -> list[TrustedKey]:
        other.start()
        other.join(0.5)
        return [*keys, fresh("next", b"n")]

    change_store(path, ROOT, memory, slowly)
    other.join(30)
    trust = read_store(path, memory)
    assert trust.keys[kid].revoked is not None and len(trust.keys) == 2 and trust.contents.version == 4


def test_another_store_of_the_same_root_does_not_take_a_stores_place(path: Path, memory: Memory) -> None:
    """The staging store is well signed too, and does not know what was revoked in production."""
    stage = path.with_name("stage.json")
    new_store(stage, "stage", ROOT, memory)
    own = path.read_bytes()
    path.write_bytes(stage.read_bytes())
    for _ in range(2):
        with pytest.raises(PolicyError, match=r"the store stage .* where lab .* --store-name stage"):
            read_store(path, memory)
    with pytest.raises(PolicyError, match="it is the store stage, not lab"):
        read_store(path, memory, name="lab")
    assert read_store(path, memory, name="stage").contents.name == "stage" == read_store(path, memory).contents.name
    path.write_bytes(own)
    with pytest.raises(PolicyError, match="--store-name lab"):
        read_store(path, memory)
    change_store(stage, ROOT, memory, lambda keys: [*keys, fresh("next", b"n")])
    assert read_store(path, memory, name="lab").contents.version == 2


def test_a_memory_from_before_places_were_kept_is_read(path: Path, memory: Memory) -> None:
    kept = json.loads(memory.path.read_text())
    del kept["places"]
    memory.path.write_text(json.dumps(kept))
    assert read_store(path, memory).contents.version == 2 and "places" in json.loads(memory.path.read_text())


def test_a_store_that_is_refused_is_not_made(path: Path, memory: Memory) -> None:
    """There is one of that name under that root, of a newer version."""
    with pytest.raises(PolicyError, match="version 1, where 2 was seen"):
        new_store(path.with_name("other.json"), "lab", ROOT, memory)
    assert sorted(each.name for each in path.parent.glob("*.json")) == ["store.json"]


def test_a_store_past_its_time_is_refused(path: Path, memory: Memory) -> None:
    """So that whoever holds new stores back cannot hold revocations back for ever."""
    with pytest.raises(PolicyError, match="to be renewed by"):
        read_store(path, memory, now=datetime.now(UTC) + timedelta(days=366))


def test_a_revocation_is_not_softened(path: Path, memory: Memory) -> None:
    kid, at = Signer(b"s" * 32).kid, datetime.now(UTC)
    change_store(path, ROOT, memory, lambda keys: revoke(keys, kid, "compromised", at))
    with pytest.raises(UserError, match="not taken back"):
        change_store(path, ROOT, memory, lambda keys: revoke(keys, kid, "superseded", at))
    with pytest.raises(UserError, match="2099-01-01T00:00:00Z, which has not come"):
        change_store(
            path, ROOT, memory, lambda keys: revoke(keys, kid, "compromised", datetime(2099, 1, 1, tzinfo=UTC))
        )
    for days, kept in ((-1, at), (3, at - timedelta(days=3)), (2, at - timedelta(days=3))):
        given = min(at - timedelta(days=days), datetime.now(UTC))
        trust = change_store(path, ROOT, memory, lambda keys, given=given: revoke(keys, kid, "compromised", given))
        revoked = trust.keys[kid].revoked
        assert revoked is not None and revoked.at == kept.strftime(TIME)


def test_a_superseded_key_that_is_compromised_too_keeps_the_earlier_time() -> None:
    early, late = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))
    keys = [fresh("release")]
    kid = keys[0].key.kid
    both = revoke(revoke(keys, kid, "superseded", early), kid, "compromised", late)
    assert both[0].revoked is not None and both[0].revoked.model_dump() == {
        "reason": "compromised", "at": early.strftime(TIME)
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value | {"unknown": 1},
        lambda value: value | {"format": "securegan-trust-2"},
        lambda value: value | {"version": 0},
        lambda value: value | {"version": "3"},
        lambda value: value | {"keys": value["keys"] * 2},
        lambda value: value | {"keys": [value["keys"][0] | {"purposes": ["everything"]}]},
        lambda value: value | {"keys": [value["keys"][0] | {"purposes": []}]},
        lambda value: value | {"keys": [value["keys"][0] | {"public": "A" * 43 + "="}]},
        lambda value: value | {"keys": [value["keys"][0] | {"since": value["keys"][0]["until"]}]},
        lambda value: value | {"keys": [value["keys"][0] | {"revoked": {"reason": "mood", "at": value["time"]}}]},
    ],
)  # fmt: skip
def test_unknown_fields_are_refused_though_the_root_signed_them(change, path: Path, memory: Memory) -> None:
    value = strict_json.parse(dsse.read(path.read_bytes(), KIND, path).unverified, limit=10**6)
    path.write_bytes(dsse.sign(KIND, strict_json.write(change(value | {"version": 3})), ROOT))
    with pytest.raises(PolicyError):
        read_store(path, memory)


def test_a_damaged_memory_is_not_taken_for_an_empty_one(path: Path, memory: Memory) -> None:
    for text in ("", "{}", "[]", '{"roots":{},"roots":{}}', '{"roots":1,"stores":{},"checkpoints":{}}'):
        memory.path.write_text(text)
        with pytest.raises(UserError, match="cannot be read"):
            read_store(path, memory)
    assert memory.path.stat().st_mode & 0o77 == 0 == memory.folder.stat().st_mode & 0o77


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(payload=st.binary(max_size=80) | st.sampled_from([b"{}", b"[]", b"null", b'{"keys":[]}']))
def test_fuzz_any_store_that_the_root_signs_is_read_or_refused(payload: bytes, path: Path, memory: Memory) -> None:
    path.write_bytes(dsse.sign(KIND, payload, ROOT))
    with pytest.raises(PolicyError):
        read_store(path, memory)


def _names(keys: Sequence[TrustedKey]) -> list[str]:
    return [key.name for key in keys]


def test_a_key_gets_a_successor(path: Path, memory: Memory) -> None:
    trust = change_store(path, ROOT, memory, lambda keys: [*keys, fresh("next", b"n")])
    assert _names(trust.contents.keys) == ["release", "next"] and trust.contents.version == 3
