"""What each figure is called and means, and how its number is written."""

import math
from dataclasses import dataclass
from typing import Literal

DASH = "–"
SPACE = "\u00a0"  # no line break between a number and its unit

Kind = Literal["rate", "score", "count"]

_ATTACKS = {  # as their papers write them
    **{name: name.upper() for name in ("fgsm", "pgd", "apgd")},
    "cw": "C&W",
    "deepfool": "DeepFool",
    "square": "Square Attack",
    "genattack": "GenAttack",
    "few_pixel": "the few-pixel attack",
    "boundary": "Boundary Attack",
    "hopskipjump": "HopSkipJump",
    "advgan": "AdvGAN",
    "suite": "the suite",
    "vae_latent": "the latent attack on VAEs",
    "vae_output": "the output attack on VAEs",
    "vae_damage": "the maximum-damage attack on VAEs",
}


def attack_named(name: object) -> str:
    """An attack of the configuration in words; one that is none of ours by its own name."""
    return _ATTACKS.get(str(name), str(name))


@dataclass(frozen=True)
class Entry:
    """A figure in words."""

    label: str
    meaning: str
    kind: Kind = "score"
    surface: str = ""

    @property
    def full_label(self) -> str:
        """The label with the surface it is about."""
        return f"{self.label}: {self.surface}" if self.surface else self.label


_SCORES = {  # in the features of an extractor, which ends the key
    "fid": Entry("FID", "Distance between generated and real images in {}; lower is nearer."),
    "is": Entry("Inception score", "Outputs of clear and of varied classes as read by {}; 1 is worst."),
    "kid": Entry("KID", "The same distance by a kernel, free of a bias by the number of images; about 0 is best."),
    "precision": Entry("Precision", "Outputs that lie among real images in {}: few are misshapen.", "rate"),
    "recall": Entry("Recall", "Real images that lie among outputs in {}: little is left out.", "rate"),
    "density": Entry("Density", "How thickly real images lie around outputs in {}; real ones have about 1."),
    "coverage": Entry("Coverage", "Real images that have an output among their nearest in {}.", "rate"),
}
_EXTRACTORS = {
    "judge": ("judge", "the judge's features"),
    "inception": ("Inception", "reference Inception features"),
}

_QUALITY = {
    "fidelity": Entry(
        "Fidelity of outputs", "Mean over outputs of the highest SSIM to held-out real images (1 is equal)."
    ),
    "fidelity_real": Entry(
        "Fidelity of real images", "The same for other real images: what outputs would reach if they were real."
    ),
    "fidelity_latent_attack": Entry(
        "Fidelity under latent attack", "The same for outputs whose latent codes were attacked."
    ),
    "class_accuracy_judge": Entry(
        "Class read by the judge", "Share of outputs in which an independent judge reads the class asked for.", "rate"
    ),
    "reconstruction_ssim": Entry(
        "Reconstruction SSIM", "Of real images and what the autoencoder makes of them, on average (1 is equal)."
    ),
    "reconstruction_ssim_mean_image": Entry(
        "SSIM of the mean image", "Of real images and the mean of the train split: what a reconstruction must beat."
    ),
    "diversity": Entry(
        "Diversity", "Spread of the outputs in the judge's features against that of real images (1 is equal)."
    ),
    "diversity_within_classes": Entry(
        "Diversity within classes", "The same among outputs of one class: near 0, the generator has one image for each."
    ),
}

_ROBUSTNESS = {
    "clean_accuracy": Entry("Clean accuracy", "Share of unattacked inputs on which the decision is right.", "rate"),
    "attack_success": Entry(
        "Attack success", "Of the inputs decided rightly, the share lost to the attack within its bounds.", "rate"
    ),
    "robust_accuracy": Entry(
        "Robust accuracy", "Share of all inputs decided rightly before and after the attack.", "rate"
    ),
    "random_success": Entry(
        "Success of random noise",
        "The same with random perturbations of the same size: the floor of an attack.",
        "rate",
    ),
    "best_of_20_random_success": Entry(
        "Best of 20 random codes",
        "Of the codes decided rightly, those that any of 20 random perturbations of the same size loses.",
        "rate",
    ),
    "system_attack_success": Entry(
        "System attack success", "The attack succeeded and the detector did not flag it.", "rate"
    ),
    "violations": Entry(
        "Out of bounds", "Attack results beyond the allowed size; they count as failures of the attack.", "count"
    ),
    "median_distance": Entry("Median distance", "Half of the successful attacks moved the input no farther than this."),
    "ssim_input": Entry("SSIM of attacked inputs", "To the clean inputs, on average: what the attack changed."),
    "ssim_output": Entry(
        "SSIM of attacked outputs", "Reconstructions of attacked inputs to those of clean ones, on average."
    ),
    "judge_reads": Entry(
        "Class read, clean", "Reconstructions of clean inputs in which an independent judge reads the label.", "rate"
    ),
    "judge_reads_attacked": Entry("Class read, attacked", "The same of attacked inputs.", "rate"),
    "median_nearest": Entry(
        "Median distance, any radius",
        "Half of the inputs that the attack could turn at all were turned from nearer than this.",
    ),
    "as_ignore_target": Entry(
        "Another class read",
        "Of the inputs whose label the judge reads from the clean reconstruction, those in whose attacked one it reads "
        "another class (AS ignoring the target, Kos et al. 2018).",
        "rate",
    ),
    "as_target": Entry(
        "Target's class read", "The same, and the class read is the target image's (AS target).", "rate"
    ),
    "auddc": Entry(
        "Area under the distortion curve",
        "How much distortion brings the output to the target (AUDDC): 0.5 where it follows the input in proportion, "
        "less where it is easier to move.",
    ),
    "ssim_target": Entry(
        "SSIM to the target, attacked", "Reconstructions of attacked inputs to that of the target image, on average."
    ),
    "ssim_target_clean": Entry("SSIM to the target, clean", "The same of clean inputs: where the attack starts."),
    "mean_queries": Entry("Queries", "Forward passes that the attack spent on an input, on average."),
}

_DETECTION = {
    "auroc": Entry("AUROC", "How well scores rank successful attacks above clean real images; 0.5 is a coin toss."),
    "aupr": Entry("AUPR", "Precision over all recalls; depends on the balance of the classes."),
    "tpr_at_1fpr": Entry(
        "Caught at 1 % false alarms", "Successful attacks flagged where 1 % of clean images are.", "rate"
    ),
    "tpr_at_5fpr": Entry(
        "Caught at 5 % false alarms", "Successful attacks flagged where 5 % of clean images are.", "rate"
    ),
    "tpr_at_5fpr_random_noise": Entry(
        "Random noise caught at 5 % false alarms", "The same for random noise of the attack's size.", "rate"
    ),
    "positive_share": Entry("Share of attacks", "Attacked images among those that detection was measured on.", "rate"),
    "accuracy": Entry("Detection accuracy", "Clean and attacked images told apart at the threshold.", "rate"),
    "precision": Entry("Flags that are right", "Of the flagged images, the share that was attacked.", "rate"),
    "recall": Entry("Attacks flagged", "Of the successful attacks, the share flagged at the threshold.", "rate"),
    "f1": Entry("F1", "Harmonic mean of the attacks flagged and the flags that are right."),
    "false_positive_rate": Entry("False alarms", "Clean real images that are flagged at the threshold.", "rate"),
    "tpr_random_noise": Entry(
        "Random noise flagged",
        "Harmless noise of the attack's size; a detector that flags any noise detects no attack.",
        "rate",
    ),
    "pass_rate_generated": Entry(
        "Outputs that pass", "Generated images below the threshold, which a release would let through.", "rate"
    ),
    "pass_rate_generated_judge": Entry(
        "Outputs that pass (judge)",
        "The same by a detector on the judge's features, against which nothing was trained.",
        "rate",
    ),
    "threshold": Entry("Threshold", "Distance above which an image is flagged, set on the calibration split."),
}

_TRAIN = {
    "loss_autoencoder": Entry("Autoencoder loss", "Nats per pixel value, mean over the epoch."),
    "kl": Entry("KL divergence", "Nats per image, mean over the epoch."),
    "loss_discriminator": Entry("Discriminator loss", "Mean over the epoch."),
    "loss_generator": Entry("Generator loss", "Mean over the epoch."),
    "images_per_second": Entry("Images per second", "Training speed."),
}

_PARTS = {"quality": _QUALITY, "detection": _DETECTION, "train": _TRAIN}


def describe(key: str) -> Entry:
    """The entry of a full key such as ``robustness/attack_success_label``; an unknown key is named by itself."""
    part, _, name = key.partition("/")
    if part == "robustness":
        for stem, entry in sorted(_ROBUSTNESS.items(), key=lambda item: -len(item[0])):  # the longest that fits
            if name.startswith(f"{stem}_"):
                return _on_surface(entry, name.removeprefix(f"{stem}_"))
    stem, _, extractor = name.partition("_")
    if part == "quality" and stem in _SCORES and extractor:
        known_as = (extractor.replace("_", " "), f"features of {extractor.replace('_', ' ')}")
        entry, (short, features) = _SCORES[stem], _EXTRACTORS.get(extractor, known_as)
        return Entry(f"{entry.label} ({short})", entry.meaning.format(features), entry.kind)
    if part == "train" and name.startswith("loss_") and name not in _TRAIN:
        player, _, term = name.removeprefix("loss_").partition("_")
        return Entry(f"{player.capitalize()} loss, {term.replace('_', ' ')}", "A term of it, mean over the epoch.")
    known = _PARTS.get(part, {}).get(name)
    return known or Entry(name.replace("_", " ") or key, "")


def _on_surface(entry: Entry, surface: str) -> Entry:
    surface, nonadaptive = surface.removesuffix("_nonadaptive"), surface.endswith("_nonadaptive")
    label, meaning = entry.label, entry.meaning
    for direction in ("real_to_fake", "fake_to_real"):
        if surface.endswith(f"_{direction}"):
            surface = surface.removesuffix(f"_{direction}")
            label += f", {direction.replace('_', ' ')}"
    if entry is _ROBUSTNESS["system_attack_success"] and not nonadaptive:
        meaning += " The adversary attacked the decision and the detector together."
    if nonadaptive:
        label += ", nonadaptive"
        meaning += " The adversary did not know of the detector: no claim against one who does."
    return Entry(label, meaning, entry.kind, surface)


def written(value: float | None, kind: Kind = "score") -> str:
    """A figure as text: rates in percent, scores with three digits, a dash where there is none."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if kind == "rate":
        return f"{_minus(f'{100 * value:.1f}')}{SPACE}%"
    if kind == "count" or (value == int(value) and abs(value) >= 1000):
        return _minus(f"{value:,.0f}")
    size = abs(value)
    if size >= 1000:
        return _minus(f"{value:,.0f}")
    if size >= 100:
        return _minus(f"{value:.0f}")
    if size >= 10:
        return _minus(f"{value:.1f}")
    if size >= 0.001 or size == 0:
        return _minus(f"{value:.3f}" if size < 1 else f"{value:.2f}")
    return _minus(f"{value:.1e}")


def interval_written(bounds: tuple[float, float] | None, kind: Kind = "score") -> str:
    """A 95 % interval as text."""
    if bounds is None:
        return DASH
    low, high = (written(bound, kind) for bound in bounds)
    return f"{low.removesuffix(f'{SPACE}%')} to {high}"


def count_written(n: int | None) -> str:
    """A number of inputs as text."""
    return DASH if n is None else f"{n:,}"


def short_count(n: float) -> str:
    """A count for a tick label, to three digits: 12,500 becomes 12.5k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= 0.9995 * size:  # 999,600 has three digits as 1M
            return f"{n / size:.0f}{unit}" if abs(n) >= 999.5 * size else f"{n / size:.3g}{unit}"
    return f"{n:.0f}"


def radius_written(eps: object, *, pixels: bool = True) -> str:
    """A radius, in pixels also as a fraction of 255 where it is a whole number of grey levels."""
    if not isinstance(eps, int | float):
        return str(eps)
    levels = eps * 255
    whole = round(levels)
    return f"{eps:.4g} ({whole}/255)" if pixels and 0 < whole < 255 and abs(levels - whole) < 1e-3 else f"{eps:.4g}"


def _minus(text: str) -> str:
    return text.replace("-", "−")
