"""The commands on the key ring, as a user gives them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from securegan.security.keys.ring import KeyRing


def test_a_key_is_made_listed_rotated_and_revoked(run: Any, tmp_path: Path) -> None:
    assert run("keys", "list")[1].endswith("holds no key: securegan keys new NAME makes one\n")
    code, out, _ = run("keys", "new", "archive", "--purpose", "image", "--purpose", "run", "--expires", "20d")
    key = KeyRing.open(tmp_path / "keys").find("archive")
    assert code == 0 and key.kid in out
    run("keys", "new", "friends", "--kind", "x25519")
    listed = run("keys", "list")[1].splitlines()
    assert "expires" in listed[0]
    assert all(word in listed[2] for word in ("archive", key.kid[:8], "aes256", "image, run", "active", "(19 d)"))
    assert all(word in listed[3] for word in ("friends", "x25519", "all", "never"))
    assert run("keys", "rotate", "archive")[0] == 0
    code, out, _ = run("keys", "revoke", key.kid[:8], "--reason", "compromised")
    assert code == 0 and "is revoked (compromised); still of that name:" in out
    states = {one["kid"]: one["state"] for one in json.loads(run("keys", "list", "--json")[1])}
    assert states[key.kid] == "revoked" and sorted(states.values()) == ["active", "active", "revoked"]
    assert re.search(f"{key.kid[:8]}.*revoked.*compromised", run("keys", "list")[1])


def test_the_public_part_is_given_out_and_nothing_else(run: Any, tmp_path: Path) -> None:
    run("keys", "new", "friends", "--kind", "x25519")
    ring = KeyRing.open(tmp_path / "keys")
    key = ring.find("friends")
    out = run("keys", "export", "friends")[1]
    assert out == key.pem
    run("keys", "export", "friends", "--out", tmp_path / "friends.pem")
    assert (tmp_path / "friends.pem").read_text() == key.pem
    texts = [out, *(run("keys", "list", *more)[1] for more in ([], ["--json"]))]
    assert not any(ring.secret(key).hex() in text for text in texts)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["keys"], "required: COMMAND"),
        (["keys", "new", "a/b"], "cannot be named 'a/b'"),
        (["keys", "new", "a", "--kind", "aes"], "Did you mean 'aes256'"),
        (["keys", "new", "a", "--purpose", "pictures"], "expected image, checkpoint"),
        (["keys", "new", "a", "--expires", "soon"], "soon is no time: expected 90d or 2027-12-31"),
        (["keys", "new", "a", "--expires", "2001-01-01"], "never be of use"),
        (["keys", "rotate", "a"], "has no key a"),
        (["keys", "revoke", "a", "--reason", "bored"], "expected compromised, superseded, retired"),
        (["keys", "export", "a"], "has no key a"),
        (["key", "list"], "Did you mean 'keys'"),
    ],
)
def test_a_mistake_ends_with_one_sentence_and_2(words: list[str], expected: str, run: Any) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "") and re.search(expected, err) and err.count("\n") == 1
