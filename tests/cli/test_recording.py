"""``--log``: key and trust events in an audit log."""

import json
from pathlib import Path
from typing import Any

import pytest

from securegan.security.keys.ring import KeyRing
from securegan.security.provenance.log import Writer


@pytest.fixture
def log(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The options that name a log; its store trusts the key that signs it."""
    monkeypatch.setenv("SECUREGAN_TRUST", str(tmp_path / "trust"))
    run("keys", "new", "root", "--kind", "ed25519", "--purpose", "trust")
    run("keys", "new", "keeper", "--kind", "ed25519", "--purpose", "log")
    run("keys", "export", "keeper", "--out", tmp_path / "keeper.pem")
    assert run("log", "new", tmp_path / "LOG", "--origin", "example.org/log", "--key", "keeper")[0] == 0
    return ["--log", tmp_path / "LOG", "--log-key", "keeper"]


def entries(run: Any, tmp_path: Path) -> list[dict[str, Any]]:
    code, out, _ = run("log", "show", tmp_path / "LOG", "--json", "--trust", tmp_path / "store.json")
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


def test_key_and_trust_events_are_logged_in_order(run: Any, log: list[object], tmp_path: Path) -> None:
    store, key = tmp_path / "store.json", ["--root", "root"]
    run("trust", "new", store, *key, *log)
    added = ["--name", "keeper", "--for", "log", *key]
    assert run("trust", "add", store, tmp_path / "keeper.pem", *added, *log)[0] == 0
    run("keys", "new", "archive", *log)
    run("keys", "rotate", "archive", *log)
    run("keys", "revoke", "archive", "--reason", "retired", *log)
    run("keys", "new", "unlogged")
    found = entries(run, tmp_path)
    begun = [(entry["kind"], entry["name"], entry["details"]["command"]) for entry in found[::2]]
    assert all(entry["details"]["event"] == "begun" for entry in found[::2])
    assert begun == [
        ("trust", "trust", "new"),
        ("trust", "keeper", "add"),
        ("key", "archive", "new"),
        ("key", "archive", "rotate"),
        ("key", "archive", "revoke"),
    ]
    found = found[1::2]
    told = [(entry["kind"], entry["name"], entry["details"]["event"]) for entry in found]
    assert told == [
        ("trust", "trust", "new"),
        ("trust", "keeper", "added"),
        ("key", "archive", "new"),
        ("key", "archive", "rotated"),
        ("key", "archive", "revoked"),
    ]
    ring = KeyRing.open(tmp_path / "keys")
    (revoked,) = (key.kid for key in ring if key.status == "revoked")
    assert found[3]["details"]["kid"] == found[4]["details"]["kid"] == revoked
    assert found[3]["details"]["before"] == found[2]["details"]["kid"] != found[3]["details"]["kid"]
    text = (tmp_path / "LOG" / "log.jsonl").read_text()
    assert not any(ring.secret(key).hex() in text for key in ring)


def test_nothing_is_done_that_cannot_be_logged(run: Any, log: list[object], tmp_path: Path) -> None:
    for wrong in (["--log", tmp_path / "none", "--log-key", "keeper"], log[:2], [*log[:3], "root"]):
        code, _, err = run("keys", "new", "archive", *wrong)
        assert code == 2 and err.count("\n") == 1
    assert not (tmp_path / "none").exists()
    assert run("trust", "new", tmp_path / "store.json", "--name", "a\x1b", "--root", "root", *log)[0] == 2
    assert not (tmp_path / "store.json").exists()
    checkpoint = tmp_path / "LOG" / "checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes().replace(b"\n0\n", b"\n1\n"))
    assert run("keys", "new", "archive", *log)[0] == 1
    assert "archive" not in {key.name for key in KeyRing.open(tmp_path / "keys")}


def full_after(monkeypatch: pytest.MonkeyPatch, commits: int) -> None:
    """A disk on which no entries can be written after so many times."""
    left, commit = [commits], Writer.commit

    def limited(writer: Writer) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        commit(writer)

    monkeypatch.setattr(Writer, "commit", limited)


def test_nothing_is_done_where_the_log_cannot_be_written(
    run: Any, log: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_after(monkeypatch, 0)
    code, out, err = run("keys", "revoke", "root", "--reason", "retired", *log)
    assert (code, out) == (2, "") and "No space left" in err and "WAS done" not in err
    assert KeyRing.open(tmp_path / "keys").find("root").status == "active"


def test_what_was_done_is_told_where_the_log_cannot_be_written_any_more(
    run: Any, log: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("trust", "new", tmp_path / "store.json", "--root", "root")
    added = ["--name", "keeper", "--for", "log", "--root", "root"]
    run("trust", "add", tmp_path / "store.json", tmp_path / "keeper.pem", *added)
    with monkeypatch.context() as patch:
        full_after(patch, 1)
        code, out, err = run("keys", "revoke", "root", "--reason", "retired", *log)
    assert (code, out) == (2, "") and "this WAS done, and the log does not say so (key root revoked): " in err
    assert KeyRing.open(tmp_path / "keys").find("root").status == "revoked"
    assert [entry["details"] for entry in entries(run, tmp_path)] == [{"event": "begun", "command": "revoke"}]


def test_a_change_that_is_refused_is_logged_as_that(run: Any, log: list[object], tmp_path: Path) -> None:
    run("trust", "new", tmp_path / "store.json", "--root", "root")
    run(
        "trust",
        "add",
        tmp_path / "store.json",
        tmp_path / "keeper.pem",
        "--name",
        "keeper",
        "--for",
        "log",
        "--root",
        "root",
    )
    assert run("keys", "rotate", "nobody", *log)[0] == 2
    assert run("keys", "new", "keeper", *log)[0] == 2
    told = [(entry["name"], entry["details"]["event"]) for entry in entries(run, tmp_path)]
    assert told == [("keeper", "begun"), ("keeper", "refused")]


def test_a_keys_name_is_text_wherever_it_is_shown(run: Any, log: list[object], tmp_path: Path) -> None:
    store, name = tmp_path / "store.json", "x[/red]"
    run("trust", "new", store, "--root", "root")
    added = run("trust", "add", store, tmp_path / "keeper.pem", "--name", name, "--for", "log", "--root", "root", *log)
    assert added[0] == 0 and name in added[1]
    code, out, _ = run("trust", "show", store)
    assert code == 0 and name in out
