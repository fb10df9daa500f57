"""One judge for each data set: cached, the same every time, trained by one process only, no trace left behind."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import securegan.judges.cache as cache
from securegan.errors import UserError
from securegan.judges.cache import judge_path, load_or_train_judge
from securegan.judges.training import _shifted, _turned, train_judge


@pytest.fixture
def trainings(monkeypatch):
    """How often a judge was trained."""
    calls = []

    def counted(data):
        calls.append(data.spec.digest)
        return train_judge(data)

    monkeypatch.setattr(cache, "train_judge", counted)
    return calls


def test_second_asking_reads_the_file(digits, tmp_path, trainings):
    data = digits(train=64)
    first, second = load_or_train_judge(data, tmp_path), load_or_train_judge(data, tmp_path)
    assert first.digest == second.digest and first.accuracy == second.accuracy and len(trainings) == 1
    assert [file.name for file in tmp_path.glob("judges/*.safetensors")] == [judge_path(data.spec, tmp_path).name]
    load_or_train_judge(digits(train=65), tmp_path)  # other data, other judge
    assert len(trainings) == 2


def test_training_is_deterministic_and_leaves_the_global_generator_alone(digits):
    data = digits(train=64)
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    first = train_judge(data)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(8)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # nor does the number of cores matter
    try:
        with torch.no_grad():
            assert train_judge(data).digest == first.digest
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("damage", [b"", b"not a judge", None])
def test_damaged_file_is_trained_anew_with_a_warning(digits, tmp_path, trainings, damage):
    data = digits(train=64)
    first = load_or_train_judge(data, tmp_path)
    path = judge_path(data.spec, tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content) if damage is None else damage)
    with pytest.warns(UserWarning, match="trained anew"):
        again = load_or_train_judge(data, tmp_path)
    assert again.digest == first.digest and len(trainings) == 2
    assert load_or_train_judge(data, tmp_path).digest == first.digest and len(trainings) == 2


def test_unlabelled_data_gets_a_judge_of_turns(digits, tmp_path):
    judge = load_or_train_judge(digits(labelled=False, train=128), tmp_path)
    assert (judge.task, judge.num_classes) == ("rotation", 4)
    assert judge.accuracy > 0.4  # chance is a quarter


def test_turns_and_shifts_do_what_they_say():
    images = torch.arange(2 * 16, dtype=torch.float32).view(2, 1, 4, 4)
    turned, labels = _turned(images, torch.tensor([0, 1, 2, 3]))
    for row, turns in enumerate(labels.tolist()):
        assert torch.equal(turned[row], images[row % 2].rot90(turns, dims=(1, 2)))
    shifted = _shifted(torch.rand(6, 3, 32, 32), step=3)
    assert shifted.shape == (6, 3, 32, 32)
    flat = torch.rand(4, 3, 1, 1).expand(-1, -1, 32, 32)
    assert torch.equal(_shifted(flat, step=0), flat)


def test_no_labelled_image_is_a_users_mistake(digits, tmp_path):
    data = digits(train=64)
    data.labels[:] = -1
    with pytest.raises(UserError, match="needs labelled training images"):
        load_or_train_judge(data, tmp_path)


def test_unusable_cache_is_a_users_mistake(digits, tmp_path):
    (tmp_path / "judges").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot be kept"):
        load_or_train_judge(digits(train=64), tmp_path)


CHILD = """
import importlib.util, sys
from pathlib import Path
import torch, torch.distributed as dist
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("judge_data", sys.argv[1])
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
import securegan.judges.cache as cache
cache_dir, meeting, rank = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
train, calls = cache.train_judge, []
cache.train_judge = lambda data: calls.append(1) or train(data)
if meeting:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    cache_dir = cache_dir / str(rank)  # as on two machines that share no disk
try:
    judge = cache.load_or_train_judge(module.DigitsData(train=int(sys.argv[5])), cache_dir)
    print(len(calls), judge.digest, flush=True)
except Exception as error:
    print(len(calls), type(error).__name__, flush=True)
if meeting:
    dist.destroy_process_group()
"""


def _two_processes(tmp_path: Path, meeting: str, train: int = 64) -> list[list[str]]:
    """``[trainings, digest]`` of two processes that ask at the same time."""
    conftest = Path(__file__).with_name("conftest.py")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", CHILD, str(conftest), str(tmp_path), meeting]
    children = [
        subprocess.Popen([*command, str(rank), str(train)], stdout=subprocess.PIPE, text=True, cwd=root)
        for rank in (0, 1)
    ]
    return [child.communicate(timeout=200)[0].split() for child in children]


@pytest.mark.ddp
@pytest.mark.parametrize("grouped", [False, True], ids=["file lock", "process group"])
def test_two_processes_train_one_judge(tmp_path, grouped):
    answers = _two_processes(tmp_path, str(tmp_path / "meeting") if grouped else "")
    assert sum(int(trained) for trained, _ in answers) == 1
    assert answers[0][1] == answers[1][1] and len(answers[0][1]) == 64
    if grouped:
        assert answers[0][0] == "1"


@pytest.mark.ddp
def test_failure_of_rank_0_reaches_the_other_rank(tmp_path):
    (tmp_path / "0").write_text("a file where rank 0 wants its folder")
    answers = _two_processes(tmp_path, str(tmp_path / "meeting"))
    assert [error for _, error in answers] == ["UserError", "UserError"]
