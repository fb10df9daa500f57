"""The run folder and its checkpoints under faults."""

import json
import os
import shlex
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from securegan.data.batch import DataSpec
from securegan.errors import UserError
from securegan.runs.atomic import write_atomically
from securegan.runs.checkpoints import read_index, verified, verified_weights
from securegan.runs.folder import RunFolder, environment
from securegan.security.provenance.files import digest_file


def test_a_folder_that_holds_a_run_is_not_started_again(tmp_path: Path) -> None:
    config = OmegaConf.create({"seed": 0})
    RunFolder.create(tmp_path, config).release()
    left = [tmp_path / name for name in ("steps.csv", "wandb_id.txt", "wandb_sent.json", "environment.json")]
    for path in left:
        path.write_text("of a run that ended before its first saved point")
    RunFolder.create(tmp_path, config).release()
    assert not any(path.exists() for path in left)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "index.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds a run: continue it with ckpt="):
        RunFolder.create(tmp_path, config)


def test_a_refused_run_takes_away_what_it_wrote_and_nothing_else(tmp_path: Path) -> None:
    for name, others in (("new", []), ("used", ["notes.txt"])):
        path = tmp_path / name
        path.mkdir()
        for other in others:
            (path / other).write_text("kept")
        RunFolder.create(path, OmegaConf.create({"seed": 0})).discard()
        assert path.exists() == bool(others)
        assert [file.name for file in path.glob("*")] == others


def test_rows_after_the_saved_point_are_dropped_and_none_is_doubled(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, OmegaConf.create({}))
    for epoch in (1, 2, 3, 3):
        folder.add_row({"epoch": epoch, "images_seen": epoch * 10, "split": "validate", "metrics": {"a/b": epoch / 2}})
    again = RunFolder.open(tmp_path)
    assert [row["epoch"] for row in again.rows] == [1, 2, 3]
    again.prune(2)
    assert [row["epoch"] for row in RunFolder.open(tmp_path).rows] == [1, 2]
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 3


def test_a_continuation_is_listed_below_the_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create(tmp_path, OmegaConf.create({}))
    for arguments in (["seed=3"], ["ckpt=a"], ["ckpt=b"]):
        monkeypatch.setattr("sys.argv", ["run", *arguments])
        folder.write_environment(continued=arguments != ["seed=3"])
    about = json.loads((tmp_path / "environment.json").read_text())
    assert about["command"].endswith("seed=3")
    monkeypatch.setattr("sys.argv", ["run", "data.path='a b=1'"])
    assert shlex.split(environment()["command"])[-1] == "data.path='a b=1'"
    assert [entry["command"].split()[-1] for entry in about["continued"]] == ["ckpt=a", "ckpt=b"]


@pytest.mark.parametrize(
    "content", ["{", "[]", "3", "null", '{"rows": 1}', '{"rows": [1]}', '{"rows": [{"a": 1}]}', "[" * 200_000]
)
def test_damaged_metrics_are_named(tmp_path: Path, content: str) -> None:
    RunFolder.create(tmp_path, OmegaConf.create({})).release()
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=r"metrics\.json is damaged"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("content", ["{", '{"last": {"file": "x"}}', "[1]", '{"last": 3}', "[" * 200_000])
def test_a_damaged_index_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match=r"index\.json is damaged"):
        read_index(tmp_path)


def test_a_missing_and_a_changed_checkpoint_are_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    file = run.checkpoints / "epoch-0001.ckpt"
    file.write_bytes(b"weights")
    weights = {"file": "epoch-0001.safetensors", "sha256": ""}
    entry = {"file": file.name, "epoch": 1, "sha256": digest_file(file), "weights": weights}
    (run.checkpoints / "index.json").write_text(json.dumps({"last": entry}))
    assert verified(run, "last")[0] == file
    with pytest.raises(UserError, match=r"no 'best' checkpoint.*--checkpoint last"):
        verified(run, "best")
    file.write_bytes(b"weighta")
    with pytest.raises(UserError, match="damaged"):
        verified(run, "last")
    file.unlink()
    with pytest.raises(UserError, match="missing"):
        verified(run, "last")


@pytest.mark.parametrize(
    "name", ["../epoch-0001.ckpt", "/etc/passwd", "a/b", "epoch-0002.ckpt", "epoch-0001.ckpt\0", "\ud800", 3, None]
)
def test_an_index_that_names_other_files_is_refused(tmp_path: Path, name: object) -> None:
    weights = {"file": "epoch-0001.safetensors", "sha256": ""}
    whole = {"file": "epoch-0001.ckpt", "epoch": 1, "sha256": "", "weights": weights}
    for entry in ({**whole, "file": name}, {**whole, "weights": {"file": name, "sha256": ""}}):
        (tmp_path / "index.json").write_text(json.dumps({"last": entry}))
        with pytest.raises(UserError, match="is not epoch-0001"):
            read_index(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("old")

    def full(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        write_atomically(path, full)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


TAGS = ["!!int x", "!!bool x", "!!timestamp x", "!!python/object/apply:pathlib.Path [1]", "!!set x"]
NUMBERS = ["1" * 5000, "0x" + "f" * 5000]


@pytest.mark.parametrize("content", ["a: [1", "- 1\n", "3", *(f"a: {tagged}" for tagged in TAGS + NUMBERS)])
def test_a_damaged_config_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml is damaged"):
        RunFolder.open(tmp_path).config()


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "a/${oc.env:HOME}/b", "${seed}", "[1, '${seed}']", "{a: '${x}'}"])
def test_a_stored_config_reads_nothing_from_elsewhere(tmp_path: Path, value: str) -> None:
    """What somebody else's run says of its data or its name could carry an environment variable out of the machine."""
    value = value if value[0] in "[{" else f"'{value}'"
    (tmp_path / "config.yaml").write_text(f"seed: 0\nname: {value}\n")
    with pytest.raises(UserError, match=r"config\.yaml is refused: '.*' stands for another value"):
        RunFolder.open(tmp_path).config()


@pytest.mark.parametrize("value", ["${" * 100_000, '"' + "\\x24{" * 60_000 + '"'], ids=["plain", "escaped"])
def test_what_an_interpolations_parser_would_take_minutes_over_is_refused_at_once(tmp_path: Path, value: str) -> None:
    (tmp_path / "config.yaml").write_text(f"a: {value}" if value[0] == '"' else f"a: '{value}'")
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"stands for another value|more than"):
        RunFolder.open(tmp_path).config()
    assert time.monotonic() - begun < 5


SPEC = DataSpec("cut", 1, 8, 2, ("a", "b"), 0.1, "d", (0.5, 0.5))


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ["a"]}, {"class_names": ["a", 3]}, {"class_names": ["a", "\ud800"]}, {"class_shares": [0.5]},
        {"class_shares": ["x", "y"]}, {"eps": "much"}, {"eps": float("nan")}, {"size": 8.5}, {"channels": True},
        {"num_classes": 3}, {"digest": None}, {"colour": 1},
    ],
)  # fmt: skip
def test_a_description_of_other_data_than_any_run_writes_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    folder = RunFolder(tmp_path)
    folder.write_spec(SPEC)
    assert RunFolder(tmp_path).spec() == SPEC
    (tmp_path / "data.json").write_text(json.dumps({**asdict(SPEC), **change}))
    with pytest.raises(UserError, match=r"data\.json is damaged"):
        RunFolder(tmp_path).spec()


def test_weights_that_are_a_pipe_are_refused_not_waited_for(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    weights = {"file": "epoch-0001.safetensors", "sha256": ""}
    entry = {"file": "epoch-0001.ckpt", "epoch": 1, "sha256": "", "weights": weights}
    (run.checkpoints / "index.json").write_text(json.dumps({"last": entry}))
    os.mkfifo(run.checkpoints / "epoch-0001.safetensors")
    with pytest.raises(UserError, match="no regular file"):
        verified_weights(run, "last")


def test_a_run_whose_config_could_not_be_read_again_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stands for another value"):
        RunFolder.create(tmp_path / "run", OmegaConf.create({"name": r"\${oc.env:HOME}"}))
    assert not (tmp_path / "run").exists()


def test_a_stored_config_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    file.write_text(bomb)
    with pytest.raises(UserError, match="has a YAML alias"):
        RunFolder.open(tmp_path).config()
    for deep in ("[" * 200_000, "? " * 100_000, "".join(f"{' ' * i}a:\n" for i in range(300))):
        file.write_text(deep)
        with pytest.raises(UserError, match="more than 16 levels"):
            RunFolder.open(tmp_path).config()
    with file.open("wb") as opened:
        opened.truncate(2**40)
    with pytest.raises(UserError, match=r"more than 262,144 bytes"):
        RunFolder.open(tmp_path).config()
    (tmp_path / "data.json").symlink_to(file)
    with pytest.raises(UserError, match=r"data\.json is refused: it has more than"):
        RunFolder.open(tmp_path).spec()


def test_what_a_folder_was_read_as_stays(tmp_path: Path) -> None:
    """Whoever writes there meanwhile changes neither what is used nor the digest that is said of it."""
    file = tmp_path / "config.yaml"
    file.write_text("seed: 0\n")
    folder = RunFolder.open(tmp_path)
    assert folder.digest("config.yaml") == digest_file(file)
    file.write_text("seed: 1\n")
    assert folder.config().seed == 0 and folder.digest("config.yaml") != digest_file(file)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"run folder .*file cannot be made"):
        RunFolder.create(tmp_path / "file", OmegaConf.create({}))
    with pytest.raises(UserError, match=r"run folder /proc cannot be written to"):
        RunFolder.create(Path("/proc"), OmegaConf.create({}))
    with pytest.raises(UserError, match=r"/proc/a\.json could not be written"):
        write_atomically(Path("/proc/a.json"), lambda temporary: temporary.write_text(""))


@pytest.mark.parametrize(
    ("rows", "results", "report", "finished"),
    [
        ([1, 2], {"test": {"metrics": {}}}, True, True),
        ([1], {"test": {"metrics": {}}}, True, False),  # the configuration was given more epochs
        ([1, 2], {}, True, False),
        ([1, 2], {"test": {"metrics": {}}}, False, False),
        ([], {}, True, False),
    ],
)
def test_finished_is_trained_tested_and_reported(
    tmp_path: Path, rows: list[int], results: dict[str, object], report: bool, finished: bool
) -> None:
    (tmp_path / "config.yaml").write_text("trainer:\n  max_epochs: 2\n")
    content = {"rows": [{"epoch": epoch, "metrics": {}} for epoch in rows], **results}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    if report:
        (tmp_path / "report.html").touch()
    assert RunFolder.open(tmp_path).has_finished() is finished
