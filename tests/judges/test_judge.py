"""What a judge is worth on digits, and what it must not do."""

import math

import pytest
import torch

from securegan.judges.judge import DamagedJudgeError, from_bytes, to_bytes
from securegan.judges.network import JudgeNetwork
from securegan.judges.training import BATCH, EPOCHS, _fit, measure_accuracy, train_judge
from securegan.metrics.floors import floors
from securegan.metrics.moments import Moments
from securegan.metrics.quality import InceptionScore, frechet_distance


def test_reads_digits_it_was_not_trained_on(judge, whole_digits):
    assert judge.accuracy >= 0.97
    assert measure_accuracy(judge, whole_digits, "test") >= 0.96
    images, labels = whole_digits.split("validate")
    assert judge.accuracy == pytest.approx(float((judge.logits(images).argmax(1) == labels).double().mean()))


def test_shapes_attributes_and_one_pass(judge, whole_digits):
    images, _ = whole_digits.split("test")
    features, logits = judge.extract(images[:5])
    assert features.shape == (5, 64) and logits.shape == (5, 10)
    assert (judge.feature_dim, judge.num_logits) == (64, 10)
    torch.testing.assert_close(judge.features(images[:5]), features)
    torch.testing.assert_close(judge(images[:5]), logits)
    assert (judge.task, judge.num_classes, judge.key, len(judge.digest)) == ("labels", 10, "judge", 64)


def test_stays_frozen_inside_a_training_parent_and_float32_under_autocast(judge, whole_digits):
    images, _ = whole_digits.split("test")
    before = {name: tensor.clone() for name, tensor in judge.state_dict().items()}
    clean = judge.logits(images[:8])
    torch.nn.ModuleList([judge]).train()
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            again = judge.logits(images[:8])
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(precision)
    assert not any(module.training for module in judge.modules())
    assert not any(parameter.requires_grad for parameter in judge.parameters())
    assert again.dtype == torch.float32
    torch.testing.assert_close(again, clean, rtol=0, atol=0)
    for name, tensor in judge.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_gradients_reach_the_images(judge, whole_digits):
    images = whole_digits.split("test")[0][:2].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(judge.logits(images).sum(), images)
    assert gradient.abs().sum() > 0


def test_file_round_trip_and_any_tampering_is_noticed(judge, whole_digits):
    images, _ = whole_digits.split("test")
    content = to_bytes(judge, size=32, channels=1)
    again = from_bytes(content)
    assert (again.digest, again.accuracy, again.task) == (judge.digest, judge.accuracy, judge.task)
    torch.testing.assert_close(again.logits(images[:4]), judge.logits(images[:4]), rtol=0, atol=0)
    for position in (len(content) - 1, len(content) // 2, 20):
        tampered = bytearray(content)
        tampered[position] ^= 1
        with pytest.raises(DamagedJudgeError):
            from_bytes(bytes(tampered))
    for cut in (0, 5, len(content) - 7):
        with pytest.raises(DamagedJudgeError):
            from_bytes(content[:cut])


@pytest.mark.parametrize(("size", "channels"), [(32, 1), (48, 3), (64, 3), (256, 3)])
def test_any_size_gives_64_features(size, channels):
    network = JudgeNetwork(channels, size, 4).eval()
    assert network(torch.rand(2, channels, size, size)).shape == (2, 64)
    assert 100_000 < sum(parameter.numel() for parameter in network.parameters()) < 300_000


def test_fid_and_is_see_blur_coming(judge, whole_digits):
    images, _ = whole_digits.split("test")
    real = Moments(64).update(judge.extract(whole_digits.split("train")[0][:360])[0])
    distances, scores = [], []
    for width in (1, 3, 5, 9):
        blurred = torch.nn.functional.avg_pool2d(images, width, stride=1, padding=width // 2)
        features, logits = judge.extract(blurred)
        distances.append(frechet_distance(Moments(64).update(features), real))
        scores.append(InceptionScore(10).update(logits).compute())
    assert distances == sorted(distances) and distances[-1] > 5 * distances[0]
    assert scores[0] > 8 and scores[-1] < scores[0]
    floor = floors(judge.extract(images)[0], 0)["fid"]
    assert 0 < floor < distances[-1]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("train", [2, 18, 21])
def test_few_images_are_enough_to_train_on(digits, labelled, train):
    assert 0 <= train_judge(digits(labelled, train)).accuracy <= 1


def test_every_small_number_of_images_has_a_schedule_that_changes_the_weights():
    """Of every number of steps that 2 to 60 images come to; five steps once divided by zero."""
    images, labels = torch.randint(0, 255, (4, 1, 8, 8)).byte(), torch.arange(4) % 2
    for steps in sorted({math.ceil(EPOCHS * n / BATCH) for n in range(2, 61)}):
        network = JudgeNetwork(1, 8, 2)
        before = [parameter.clone() for parameter in network.parameters()]
        _fit(network.train(), images, labels, "labels", steps)
        after = list(network.parameters())
        assert all(parameter.isfinite().all() for parameter in after)
        assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
