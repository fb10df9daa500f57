"""The run in one honest sentence, and everything a reader must know before believing a figure."""

from dataclasses import dataclass
from typing import Literal

from securegan.reports.glossary import attack_named, count_written, describe, written
from securegan.reports.protocol import floor, floor_of_fewer, halves, threat_of
from securegan.reports.results import RunResults
from securegan.runs.checkpoints import WEAK

SYSTEM, NONADAPTIVE = "robustness/system_attack_success_", "_nonadaptive"
LOW_ACCURACY = 0.7  # below it, a model has so little to lose that attack success says little
COLLAPSED = 0.5  # outputs no more than this share as varied as real images are repetitions of few
READS = 0.3  # share of the way from chance to certainty that a judge must have come
SIMILAR = 0.5  # random noise reaching this share of an attack's success explains it largely

_RIGHT = {
    "label": "correct class labels",
    "authenticity": "correct real-or-generated decisions",
    "latent": "outputs that showed what was asked for",
    "latent_authenticity": "outputs that the model itself called generated",
    "latent_label": "outputs in which the model itself read what was asked for",
    "latent_detector": "outputs that passed the detector",
    "reconstruction": "sound reconstructions",
}

Level = Literal["plain", "caution", "alarm"]


@dataclass(frozen=True)
class Verdict:
    """``alarms`` say that figures cannot be relied on, ``cautions`` how far they carry."""

    sentence: str
    alarms: list[str]
    cautions: list[str]

    @property
    def level(self) -> Level:
        return "alarm" if self.alarms else "caution" if self.cautions else "plain"


def judge_run(results: RunResults) -> Verdict:
    """The verdict on a run."""
    if results.headline.split == "none":
        sentence = "Nothing has been measured in this run, so nothing can be said about its generator."
        return Verdict(sentence, [], [])
    clauses = [*_quality(results), *_robustness(results), *_detection(results)]
    start = "; ".join(clauses) or "The run was measured, but none of its main figures is a number"
    return Verdict(start[0].upper() + start[1:] + ".", _alarms(results), _cautions(results))


def _rate(results: RunResults, key: str) -> str:
    return written(results.headline.value(key), "rate")


def _quality(results: RunResults) -> list[str]:
    figures = results.headline
    for key in ("quality/fid_inception", "quality/fid_judge"):
        if figures.value(key) is not None:
            beside = "reference Inception features" if key.endswith("inception") else "an independent judge's features"
            if (lowest := floor(results, key)) is not None:
                beside += f"; {halves(results)}: {written(lowest)}"
            return [f"the generator's images lie at FID {written(figures.value(key))} from real ones ({beside})"]
    return []


def _robustness(results: RunResults) -> list[str]:
    figures, lost = results.headline, []
    for surface in results.surfaces:
        key = f"robustness/attack_success_{surface}"
        if figures.value(key) is not None and not _untouched(results, surface):
            n = figures.n.get(key)
            what = _RIGHT.get(surface, f"right decisions on {surface}")
            if surface == "latent" and results.part("data").get("num_classes") == 0:
                what = "outputs that looked typical"
            lost.append(f"{_rate(results, key)} of {what if n is None else f'{count_written(n)} {what}'}")
    if not lost:
        return []
    name = results.part("attack").get("name")
    return [f"{attack_named(name) if name else 'the attack'} overturns {_listed(lost)}"]


def _untouched(results: RunResults, surface: str) -> bool:
    """Whether the attack had no room on a surface."""
    return threat_of(results, surface).get("eps") == 0


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _detection(results: RunResults) -> list[str]:
    recall, alarms = "detection/recall", "detection/false_positive_rate"
    figures = results.headline
    if figures.value(recall) is None:
        return []
    clause = f"the detector flags {_rate(results, recall)} of the successful attacks"
    return [clause + (f" at {_rate(results, alarms)} false alarms" if figures.value(alarms) is not None else "")]


def _alarms(results: RunResults) -> list[str]:
    alarms = []
    if failed := results.violations:
        names = ", ".join(f"{check.name.replace('_', ' ')} ({check.surface})" for check in failed)
        alarms.append(
            f"{len(failed)} of {len(results.checks)} gradient-masking checks failed, so the robustness figures of "
            f"these surfaces cannot be relied on: {names}."
        )
    if results.audit is not None and (missed := results.audit.failed):
        names = ", ".join(f"{check.name} ({check.surface})" for check in missed)
        alarms.append(
            f"{len(missed)} of {len(results.audit.checks)} checks of the audit failed, so the robustness figures of "
            f"these surfaces cannot be relied on: {names}."
        )
    clean = results.headline.value("robustness/clean_accuracy_label")
    if clean is not None and clean < LOW_ACCURACY:
        alarms.append(
            f"Clean accuracy is low ({written(clean, 'rate')}): a model that is often wrong without any attack has "
            "little to lose, and its attack success says little."
        )
    alarms += _unfinished(results) + _collapse(results)
    undefined = [key for key in results.headline.metrics if results.headline.value(key) is None]
    if undefined:
        names = ", ".join(describe(key).full_label for key in undefined)
        alarms.append(f"Not a number, and therefore shown as a dash: {names}.")
    for key, value in results.headline.metrics.items():
        if key.startswith("robustness/violations_") and value:
            surface = key.removeprefix("robustness/violations_")
            alarms.append(f"{value:,.0f} attack results on {surface} left their bounds; they count as failed attacks.")
    return alarms


def _unfinished(results: RunResults) -> list[str]:
    trainer = results.config.get("trainer")
    epochs = trainer.get("max_epochs") if isinstance(trainer, dict) else None
    done = max((row.epoch or 0 for row in results.rows), default=0)
    if results.test is not None or not isinstance(epochs, int) or done >= epochs:
        return []
    return [f"This run stopped after epoch {done} of {epochs}; continue it with ckpt=."]


def _collapse(results: RunResults) -> list[str]:
    """One alarm for a generator that repeats itself: its other figures may look well all the same."""
    for key, where in (("quality/diversity", ""), ("quality/diversity_within_classes", " of a class")):
        value = results.headline.value(key)
        if value is not None and value < COLLAPSED:
            return [
                f"The generator repeats itself: its outputs{where} differ {_times(value)} as much as real "
                f"images{where} do. Fidelity, precision and density do not count then, because one good image "
                "given again and again has the best of them; its robustness in latent space says little either."
            ]
    return []


def _times(share: float) -> str:
    return "less than a hundredth" if share < 0.01 else f"{written(share)} times"


def _cautions(results: RunResults) -> list[str]:
    figures = results.headline
    measured = [s for s in results.surfaces if figures.value(f"robustness/attack_success_{s}") is not None]
    untouched = [surface for surface in measured if _untouched(results, surface)]
    attacked = len(measured) > len(untouched)
    detected = any(key.startswith("detection/") for key in figures.metrics)
    cautions = []
    if results.test is None:
        cautions.append(
            f"These are figures of the {figures.split} split, by which checkpoints are chosen; the test split has not "
            "been measured."
        )
    if untouched:
        cautions.append(
            f"Nothing was attacked on {_listed(untouched)}: the radius is 0, so the attack success there says nothing."
        )
    if not measured:
        cautions.append("No attack was measured, so nothing is claimed about robustness.")
    elif attacked and not results.checks and results.audit is None:
        cautions.append(
            "No gradient-masking checks were recorded, so a low attack success may only mean a weak attack."
        )
    if str(results.protocol.get("selection", "")) == WEAK:
        cautions.append("The run was too short: its defences did not reach full strength, so it does not show them.")
    cautions += _unread(results) + _mismatched(results)
    if not detected:
        cautions.append("No detector was measured, so nothing is claimed about detection.")
    return cautions + _unaware(results, attacked=attacked) + _comparisons(results)


def _unaware(results: RunResults, *, attacked: bool) -> list[str]:
    """Which figures are of an adversary who did not know of the detector."""
    figures = results.headline
    systems = [key.removeprefix(SYSTEM) for key in figures.metrics if key.startswith(SYSTEM)]
    aware = [surface for surface in systems if not surface.endswith(NONADAPTIVE)]
    unaware = [surface.removesuffix(NONADAPTIVE) for surface in systems if surface.endswith(NONADAPTIVE)]
    detected = attacked and figures.value("detection/recall") is not None
    if not (unaware or detected):
        return []
    if not aware:
        return [
            "Detection and system figures are nonadaptive: the adversary did not know of the detector, and nothing is "
            "claimed against one who does."
        ]
    left = [surface for surface in unaware if surface not in aware]
    parts = ["detection figures"] if detected else []
    if left:
        parts.append(f"system figures on {_listed(left)}")
    if not parts:
        return []
    what = _listed(parts)
    return [
        f"{what[0].upper()}{what[1:]} are nonadaptive; the system attack success on {_listed(aware)} is of an "
        "adversary who attacked the detector too."
    ]


def _unread(results: RunResults) -> list[str]:
    """The judge is the ruler of FID, IS and diversity: is it one?"""
    quality = results.part("quality")
    accuracy, classes = quality.get("judge_accuracy"), results.part("data").get("num_classes")
    chance = 1 / classes if classes else 1 / 4  # of quarter turns, for unlabelled data
    if not isinstance(accuracy, float) or (accuracy - chance) / (1 - chance) >= READS:
        return []
    return [
        f"The judge itself reads only {written(accuracy, 'rate')} of held-out real images rightly, by chance it would "
        f"be {written(chance, 'rate')}: figures in its features say little here."
    ]


def _mismatched(results: RunResults) -> list[str]:
    """A defence trained against another norm, or within a smaller radius, than the attack's."""
    attack, found = results.part("attack"), []
    for name, facts in results.part("defenses").items():
        norm, eps = facts.get("norm"), facts.get("eps")
        if norm is None or not attack:
            continue
        if norm != attack.get("norm") or float(eps) < float(attack.get("eps", 0)):
            found.append(
                f"{name.replace('_', ' ').capitalize()} trained within {norm} {float(eps):.3g}, and the attack works "
                f"within {attack.get('norm')} {float(attack.get('eps', 0)):.3g}: its figures are not those of a "
                "defence against it."
            )
    return found


def _comparisons(results: RunResults) -> list[str]:
    """Figures that look well until one sees what stands beside them."""
    figures, cautions = results.headline, []
    recall, noise = figures.value("detection/recall"), figures.value("detection/tpr_random_noise")
    alarms = figures.value("detection/false_positive_rate") or 0.0
    if (
        recall is not None
        and noise is not None
        and noise - alarms > SIMILAR * max(recall - alarms, 0.0)
        and noise > alarms
    ):
        cautions.append(
            f"The detector also flags {written(noise, 'rate')} of harmless random noise of the same size: it may see "
            "noise rather than attacks."
        )
    for surface in results.surfaces:
        success = figures.value(f"robustness/attack_success_{surface}")
        random = figures.value(f"robustness/random_success_{surface}")
        if success and random is not None and random >= SIMILAR * success:
            cautions.append(
                f"On {surface}, random noise alone succeeds on {written(random, 'rate')}: the decision is unstable, "
                "not merely attackable."
            )
    read = figures.value("robustness/as_ignore_target_reconstruction")
    spoiled = figures.value("robustness/attack_success_reconstruction")
    if read is not None and spoiled is not None and read > spoiled:
        cautions.append(
            f"The judge reads another class in {written(read, 'rate')} of the attacked reconstructions, and only "
            f"{written(spoiled, 'rate')} count as lost: an output that suffers as much as its input is right on that "
            "surface, whatever it shows."
        )
    for key in ("quality/fid_inception", "quality/fid_judge"):
        score, lowest = figures.value(key), floor(results, key)
        if score is not None and lowest is not None and score < lowest and floor_of_fewer(results, key):
            cautions.append(
                f"{describe(key).full_label} lies under that between {halves(results)}. FID falls with the number of "
                "images, and the halves have fewer than were scored: the outputs are not nearer to real images than "
                "real ones are."
            )
    read = figures.value("quality/class_accuracy_judge")
    if read is not None and read < LOW_ACCURACY:
        cautions.append(f"The judge reads the class asked for in only {written(read, 'rate')} of the outputs.")
    return cautions
