"""The evaluation of a module: denominators, real negatives, and no trace in training."""

from pathlib import Path

import pytest
import torch

from securegan.attacks.engine import Memory
from securegan.attacks.evasion.base import EvasionAttack, Task
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.evasion.vae_latent import VAELatent
from securegan.attacks.shield import shielded
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import LabelSurface, Surface
from securegan.attacks.threat import Radii
from securegan.data.digits import Digits
from securegan.detectors.mahalanobis.callback import Mahalanobis
from securegan.errors import ConfigError
from securegan.evaluation.audit import audit_surface
from securegan.evaluation.detection import adversarial_figures
from securegan.evaluation.evaluator import Evaluator
from securegan.evaluation.outcome import Outcome
from securegan.evaluation.protocol import Protocol
from securegan.evaluation.robustness import attack_surface, robustness_figures
from securegan.evaluation.sampling import generated, great_circle, image_chunks
from securegan.evaluation.surfaces import build_surfaces, check_surfaces, inputs_of, score_of
from securegan.judges.cache import load_or_train_judge
from securegan.judges.judge import Judge
from securegan.models.gan.lightning_model import GAN
from securegan.models.networks.discriminator import DiscriminatorOutput

NARROW = {"generator_width": 4, "discriminator_width": 4, "class_width": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    made = Digits(tmp_path_factory.mktemp("cache"), 0, max_images=400)
    made.prepare_data()
    return made


@pytest.fixture(scope="module")
def judge(data: Digits) -> Judge:
    return load_or_train_judge(data, data.cache_dir)


@pytest.fixture
def gan(data: Digits) -> GAN:
    return GAN(data.spec, 0, latent_dim=8, **NARROW)


def fitted(gan: GAN, data: Digits, **settings: object) -> Mahalanobis:
    detector = Mahalanobis(**settings)  # type: ignore[arg-type]
    detector.attach(gan)
    detector.fit(gan, data)
    return detector


def test_measuring_leaves_the_module_and_the_global_generator_as_they_were(
    gan: GAN, data: Digits, judge: Judge
) -> None:
    detector = fitted(gan, data)
    gan.train()
    small = {"generated": 32, "fidelity_references": 16, "fidelity_epoch_images": 8, "epoch_attack_images": 8}
    evaluator = Evaluator(data, judge, [], PGD(eps=0.1, steps=2, restarts=1), Protocol(**small), seed=0)  # type: ignore[arg-type]
    state = {name: value.clone() for name, value in gan.state_dict().items()}
    modes, random_state = [module.training for module in gan.modules()], torch.get_rng_state()
    first = evaluator.measure(gan, "validate", [detector], final=False)
    assert all(torch.equal(value, gan.state_dict()[name]) for name, value in state.items())
    assert [module.training for module in gan.modules()] == modes
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in gan.discriminator.parameters())
    again = evaluator.measure(gan, "validate", [detector], final=False)
    assert first.metrics == again.metrics  # a function of seed and weights, not of what was measured before


def test_the_threshold_keeps_the_stated_rate_on_the_calibration_split(gan: GAN, data: Digits) -> None:
    detector = fitted(gan, data, false_positive_rate=0.1)
    images = data.chunk("calibrate", 0, data.split_size("calibrate")).images
    flagged = (detector.scores(gan, images) > detector.threshold).double().mean()
    assert 0 < flagged <= 0.1


def test_a_detector_is_measured_without_an_attack_too(gan: GAN, data: Digits, judge: Judge) -> None:
    detector = fitted(gan, data)
    protocol = Protocol(generated=32, fidelity_references=16, fidelity_epoch_images=8)
    outcome = Evaluator(data, judge, [], None, protocol, seed=0).measure(gan, "validate", [detector], final=False)
    scores = detector.scores(gan, data.chunk("validate", 0, data.split_size("validate")).images)
    rate = (scores > detector.threshold).double().mean().item()
    assert outcome.metrics["detection/false_positive_rate"] == pytest.approx(rate)
    assert outcome.n["detection/tpr_random_noise"] == data.split_size("validate")
    assert not any(key.startswith("robustness/") for key in outcome.metrics)


def test_diversity_within_classes_tells_one_image_a_class_from_many(gan: GAN, data: Digits, judge: Judge) -> None:
    protocol = Protocol(generated=200, fidelity_references=16, fidelity_epoch_images=8, epoch_attack_images=0)
    evaluator = Evaluator(data, judge, [], None, protocol, seed=0)
    key, z = "quality/diversity_within_classes", torch.zeros(1, gan.latent_dim)
    varied = evaluator.measure(gan, "validate", [], final=False).metrics[key]
    draw = gan.generate
    gan.generate = lambda codes, y: draw(z.expand_as(codes), y)  # type: ignore[method-assign]
    assert varied > 0 and evaluator.measure(gan, "validate", [], final=False).metrics[key] < 1e-3 * varied


def test_a_mean_counts_the_values_it_is_of_and_says_what_it_leaves_out() -> None:
    outcome = Outcome()
    outcome.add_mean("quality/fidelity", torch.tensor([0.2, float("nan"), 0.4]), "no reference")
    assert outcome.metrics["quality/fidelity"] == pytest.approx(0.3) and outcome.n["quality/fidelity"] == 2
    assert outcome.notes == ["quality/fidelity leaves out 1 of 3 images: no reference."]


def test_detection_on_authenticity_counts_real_images_alone(gan: GAN, data: Digits, judge: Judge) -> None:
    detector = fitted(gan, data)
    surface = build_surfaces(("authenticity",), gan, data, judge)["authenticity"]
    chunks = list(inputs_of(surface, gan, data, "test", 20))
    attacked = attack_surface(surface, PGD(eps=0.1, steps=3, restarts=1), chunks, gan, seed=0, detector=detector)
    assert int((attacked.reference == 1).sum()) == int((attacked.reference == 0).sum()) == 20
    outcome = adversarial_figures(detector, attacked, "authenticity")
    assert outcome.n["detection/false_positive_rate"] == 20
    expected = detector.scores(gan, data.chunk("test", 0, 20).images).float().sort().values
    assert torch.allclose(torch.tensor(outcome.arrays["distance_real"]).sort().values, expected, rtol=1e-4)


def test_generated_images_do_not_depend_on_how_many_are_asked_for(gan: GAN) -> None:
    few = torch.cat([images for _, images, _ in image_chunks(gan, 100, "samples")])
    many = torch.cat([images for _, images, _ in image_chunks(gan, 200, "samples")])
    assert torch.allclose(few, many[:100], atol=1e-6)


def test_a_label_attack_on_unlabelled_data_is_refused_by_name(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(40):
        Image.effect_noise((32, 32), 50 + number).save(tmp_path / f"{number}.png")
    from securegan.data.folder import Folder

    flat = Folder(tmp_path / "cache", 0, path=str(tmp_path), batch_size=4)
    gan = GAN(flat.spec, 0, latent_dim=8, **NARROW)
    assert check_surfaces(PGD(eps=0.1), gan) == ("authenticity", "latent")
    with pytest.raises(ConfigError, match=r"attack\.surfaces=label.*unlabelled"):
        check_surfaces(PGD(eps=0.1, surfaces=["label"]), gan)


LATENT = ("latent", "latent_authenticity", "latent_label", "latent_detector")


def test_codes_are_attacked_on_other_decisions_only_where_that_is_asked_for(gan: GAN, data: Digits) -> None:
    detector = fitted(gan, data)
    assert check_surfaces(PGD(eps=0.1), gan, [detector]) == ("label", "authenticity", "latent")
    assert check_surfaces(PGD(eps=0.1, surfaces=LATENT), gan, [detector]) == LATENT
    with pytest.raises(ConfigError, match=r"latent_detector.*the run has no detector"):
        check_surfaces(PGD(eps=0.1, surfaces=["latent_detector"]), gan)
    with pytest.raises(ConfigError, match=r"latent_authenticity.*three classes"):
        check_surfaces(PGD(eps=0.1, targeted="next", surfaces=["latent_authenticity"]), gan)


def test_latent_decisions_are_those_of_the_networks_that_look_at_outputs(gan: GAN, data: Digits, judge: Judge) -> None:
    detector = fitted(gan, data, false_positive_rate=0.3)
    made = build_surfaces(LATENT, gan, data, judge, [detector])
    attack = PGD(eps=0.1, latent_eps=1.0, steps=4, restarts=1)
    for name in LATENT[1:]:
        chunks = list(inputs_of(made[name], gan, data, "test", 30))
        (chunk,) = chunks
        attacked = attack_surface(made[name], attack, chunks, gan, seed=0, detector=detector, many_draws=True)
        images = generated(gan, chunk.x, chunk.reference)
        class_logits, threshold = seen(gan, images).class_logits, getattr(made[name], "threshold", 0.0)
        assert class_logits is not None
        expected = {
            "latent_label": class_logits.argmax(1) == chunk.reference,
            "latent_authenticity": seen(gan, images).authenticity <= threshold,
            "latent_detector": detector.scores(gan, images) <= detector.threshold,
        }[name]
        assert torch.equal(attacked.clean_right, expected)
        assert attacked.any_random_wrong is not None
        assert (attacked.any_random_wrong >= attacked.random_wrong).all()
        metrics = robustness_figures(made[name], attacked, None).metrics
        if expected.any():
            key = f"random_success_{name}"
            assert metrics[f"robustness/best_of_20_{key}"] >= metrics[f"robustness/{key}"]
    flagged = attacked.scores["adversarial"] > detector.threshold
    assert torch.equal(flagged[attacked.clean_right], attacked.success[attacked.clean_right])


def test_an_adversary_who_knows_of_the_detector_counts_among_the_same_inputs(
    gan: GAN, data: Digits, judge: Judge
) -> None:
    detector = fitted(gan, data, false_positive_rate=0.5)
    small = {"generated": 32, "fidelity_references": 16, "fidelity_epoch_images": 8, "epoch_attack_images": 24}
    attack = PGD(eps=0.1, steps=6, restarts=1, surfaces=["label", "authenticity"], adaptive=True)
    evaluator = Evaluator(data, judge, [], attack, Protocol(**small), seed=0)  # type: ignore[arg-type]
    outcome = evaluator.measure(gan, "validate", [detector], final=False)
    for surface in ("label", "authenticity"):
        key = f"robustness/system_attack_success_{surface}"
        unaware, success = f"{key}_nonadaptive", f"robustness/attack_success_{surface}"
        assert outcome.n[key] == outcome.n[unaware] == outcome.n[success]
        assert outcome.metrics[unaware] <= outcome.metrics[key]
        assert outcome.protocol["threat_models"][surface]["adaptive"]
        shown, behind = outcome.examples, f"adaptive_{surface}"
        assert (f"{behind}_after" in shown) == (outcome.metrics[key] > outcome.metrics[unaware])
        if f"{behind}_after" in shown:
            assert shown[f"{behind}_lost"].all() and "flagged" not in shown[f"{behind}_after"]
            images = torch.from_numpy(shown[f"{behind}_adversarial"])
            assert (detector.scores(gan, images) <= detector.threshold).all()
    system = "robustness/system_attack_success"
    assert any(
        outcome.metrics[f"{system}_{surface}"] > outcome.metrics[f"{system}_{surface}_nonadaptive"]
        for surface in ("label", "authenticity")
    )


def test_an_adaptive_attack_is_audited_behind_the_detector_too(gan: GAN, data: Digits, judge: Judge) -> None:
    detector = fitted(gan, data)
    for adaptive, behind in ((True, ["label behind the detector"]), (False, [])):
        attack = PGD(eps=0.1, adaptive=adaptive, surfaces=["label", "latent"])
        evaluator = Evaluator(data, judge, [], attack, Protocol(), seed=0)
        audited = [
            {check.surface for check in evaluator.audit(gan, surface, "test", 8, full=False, detectors=[detector])}
            for surface in evaluator.surfaces(gan, [detector]).values()
        ]
        assert audited == [{"label", *behind}, {"latent"}]


def test_the_detector_of_a_model_can_be_climbed_down(gan: GAN, data: Digits) -> None:
    detector = fitted(gan, data)
    images = data.chunk("validate", 0, 8).images
    with shielded(gan.victims()):
        x = images.clone().requires_grad_(True)
        scores = score_of(detector, gan)(x)
        (gradient,) = torch.autograd.grad(scores.sum(), x)
        lower = score_of(detector, gan)((x - 1e-3 * gradient.sign()).clamp(0, 1).detach())
    assert torch.allclose(scores.detach(), detector.scores(gan, images)) and (lower < scores).all()


def test_a_knowing_adversary_needs_a_detector_images_and_no_classes(gan: GAN, data: Digits) -> None:
    detector = fitted(gan, data)
    assert "label" in check_surfaces(PGD(eps=0.1, adaptive=True), gan, [detector])
    with pytest.raises(ConfigError, match=r"attack\.adaptive=true needs a detector"):
        check_surfaces(PGD(eps=0.1, adaptive=True), gan)
    with pytest.raises(ConfigError, match=r"attack\.adaptive=true attacks images"):
        check_surfaces(PGD(eps=0.1, adaptive=True, surfaces=["latent"]), gan, [detector])
    with pytest.raises(ConfigError, match=r"attack\.adaptive=true is not possible.*a target needs"):
        check_surfaces(PGD(eps=0.1, adaptive=True, targeted="next"), gan, [detector])
    with pytest.raises(ConfigError, match=r"attack\.adaptive=true is not possible with vae_latent"):
        VAELatent(eps=0.1, adaptive=True)
    with pytest.raises(ConfigError, match=r"attack=vae_latent is not possible with this model"):
        check_surfaces(VAELatent(eps=0.1), gan)


def seen(gan: GAN, images: torch.Tensor) -> DiscriminatorOutput:
    with shielded(gan.victims()), torch.no_grad():
        return gan.discriminate(images)


def test_a_radius_comes_from_the_data_in_the_attacks_norm_or_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"attack\.eps"):
        PGD()
    radii = Radii.of(8 / 255, 3 * 32 * 32)
    assert PGD(radii).eps == 8 / 255 and PGD(radii, eps=0.1).eps == 0.1
    assert PGD(radii, norm="l2").eps == pytest.approx(0.435, abs=1e-3)  # the literature takes 0.5 beside 8/255


def test_an_attack_keeps_to_the_surfaces_that_it_suits(gan: GAN) -> None:
    assert check_surfaces(PGD(eps=0.1), gan) == ("label", "authenticity", "latent")
    assert check_surfaces(PGD(eps=0.1, targeted="next"), gan) == ("label", "latent")
    with pytest.raises(ConfigError, match=r"attack\.surfaces=authenticity.*three classes"):
        check_surfaces(PGD(eps=0.1, targeted="next", surfaces=["authenticity"]), gan)


def test_layers_that_are_not_there_are_refused_by_name(gan: GAN) -> None:
    with pytest.raises(ConfigError, match=r"layers=\[9\]"):
        Mahalanobis(layers=[9]).attach(gan)


def test_a_path_between_codes_stays_at_the_priors_distance() -> None:
    first, second = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    path = great_circle(first, second, 9)
    torch.testing.assert_close(path[:, 0], first)
    torch.testing.assert_close(path[:, -1], second)
    assert (path.norm(dim=2) >= torch.minimum(first.norm(dim=1), second.norm(dim=1))[:, None] - 1e-4).all()
    steps = (path[:, 1:] - path[:, :-1]).norm(dim=2)
    assert (steps.amax(1) < 1.5 * steps.amin(1)).all()  # even, but for the lengths of the ends
    same = great_circle(first, first, 3)
    torch.testing.assert_close(same, first[:, None].expand_as(same), rtol=1e-3, atol=1e-3)


def test_recall_and_coverage_are_of_real_images_and_the_rest_of_outputs(gan: GAN, data: Digits, judge: Judge) -> None:
    protocol = Protocol(generated=24, fidelity_references=16, fidelity_epoch_images=8, epoch_attack_images=0)
    n = Evaluator(data, judge, [], None, protocol, seed=0).measure(gan, "validate", [], final=False).n
    real = data.split_size("validate")
    assert real != 24
    assert n["quality/recall_judge"] == n["quality/coverage_judge"] == real
    assert n["quality/precision_judge"] == n["quality/density_judge"] == n["quality/kid_judge"] == 24


def test_without_a_radius_no_check_of_gradient_masking_passes(gan: GAN, data: Digits, judge: Judge) -> None:
    for attack, name in ((PGD(eps=0.0), "authenticity"), (PGD(eps=0.1, latent_eps=0), "latent")):
        surface = build_surfaces((name,), gan, data, judge)[name]  # type: ignore[index, arg-type]
        chunks = list(inputs_of(surface, gan, data, "validate", 4))
        checks = audit_surface(surface, chunks, attack, judge, seed=0)
        assert checks and all(check.passed is None for check in checks)
        assert "radius is 0" in checks[0].detail


class Supplied(EvasionAttack):
    """An attack that is none of ours: it keeps what it is supplied with, and learns from images."""

    name = "supplied"

    def __init__(self) -> None:
        super().__init__(None, "linf", eps=0.1, surfaces=["label", "authenticity", "latent"])
        self.got: dict[str, Supplies] = {}

    def prepare(self, surface: Surface, supplies: Supplies) -> None:
        self.got[surface.name] = supplies

    def search(self, task: Task) -> None:
        assert task.surface.name in self.got  # before any input is attacked


def test_any_attack_is_supplied_for_each_surface_before_it_is_attacked(gan: GAN, data: Digits, judge: Judge) -> None:
    attack = Supplied()
    small = Protocol(generated=32, fidelity_references=16, test_attack_images=8, latent_attack_images=4, check_images=0)
    evaluator = Evaluator(data, judge, [], attack, small, seed=7)
    evaluator.memory = memory = Memory()
    evaluator.measure(gan, "test", [], final=True)
    assert list(attack.got) == ["label", "authenticity", "latent"]
    label, authenticity = (attack.got[name].images for name in ("label", "authenticity"))
    assert label is not None and authenticity is not None and attack.got["latent"].images is None
    images, labels = label("calibrate", 12)
    held = data.chunk("calibrate", 0, 12)
    assert torch.equal(images, held.images) and torch.equal(labels, held.labels)
    assert authenticity("train", 6)[1].tolist() == [1] * 6 + [0] * 6
    for supplies in attack.got.values():
        assert supplies.memory is memory and supplies.seed == 7
        assert supplies.surrogate is not None
        assert torch.equal(supplies.surrogate.logits(images, labels), judge.logits(images))


def test_a_surrogate_that_was_chosen_takes_the_judges_place(gan: GAN, data: Digits, judge: Judge) -> None:
    chosen, attack = LabelSurface(gan.class_logits, (gan,), data.spec.class_names), Supplied()
    attack.surfaces = ("label",)
    small = Protocol(generated=32, fidelity_references=16, test_attack_images=4, check_images=0)
    Evaluator(data, judge, [], attack, small, seed=0, surrogate=chosen).measure(gan, "test", [], final=True)
    assert attack.got["label"].surrogate is chosen


def test_a_radius_beyond_every_image_is_refused() -> None:
    PGD(eps=1.0).check_radius()
    PGD(norm="l2", eps=8).check_radius()
    with pytest.raises(ConfigError, match=r"attack\.eps=8 is not allowed.*8/255"):
        PGD(eps=8).check_radius()
