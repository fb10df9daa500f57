"""The catalogue of a report's figures: what each shows, how it is read, and who draws it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from securegan.reports import curves, diagnostics, pictures, radii
from securegan.reports.glossary import SPACE
from securegan.reports.results import AWARE, RunResults
from securegan.reports.style import DARK, LIGHT, Theme, png

Draw = Callable[[RunResults, Theme], Figure | str]


@dataclass(frozen=True)
class Plot:
    """A figure as a report shows it: PNGs for light and dark paper, or the reason why there is none."""

    name: str  # also the file's, without .png
    title: str
    reading: str
    light: bytes | None = None
    dark: bytes | None = None
    missing: str = ""


@dataclass(frozen=True)
class _Entry:
    name: str
    title: str
    reading: str
    draw: Draw

    def plot(self, results: RunResults) -> Plot:
        drawn = self.draw(results, LIGHT)
        if isinstance(drawn, str):
            return Plot(self.name, self.title, self.reading, missing=drawn)
        dark = self.draw(results, DARK)
        assert not isinstance(dark, str)
        return Plot(self.name, self.title, self.reading, light=png(drawn), dark=png(dark))


_DIAGNOSTICS = (
    _Entry(
        "fidelity_clean",
        "Fidelity of clean outputs",
        "The nearer the filled outputs lie to the outlined real images, the more they look like the data; far to the "
        "right of them, they may be copies.",
        diagnostics.fidelity_clean,
    ),
    _Entry(
        "fidelity_latent_attack",
        "Fidelity under latent attack",
        "A shift to the left of the clean outline is what an adversary who chooses the latent code can spoil.",
        diagnostics.fidelity_attacked,
    ),
    _Entry(
        "distances",
        "Distances seen by the detector",
        "Right of the line an image is flagged: adversarial images should lie there, real ones and harmless noise left "
        "of it.",
        diagnostics.distances,
    ),
    _Entry(
        "attack_success",
        "Attack success over training",
        "Lower is more robust, provided that the dotted noise floor lies well below and that the checks further down "
        "passed.",
        diagnostics.attack_over_epochs,
    ),
    _Entry(
        "detection",
        "Detection over training",
        f"Accuracy and catches should rise towards 100{SPACE}% while false alarms stay near the rate that was asked "
        "for.",
        diagnostics.detection_over_epochs,
    ),
)
_RADII = _Entry(
    "attack_radius",
    "Attack success against the radius",
    "How far an adversary must move an input: the further right a curve rises, the better; one that starts high at "
    "small radii shows a decision that is hardly defended at all.",
    radii.success_by_radius,
)
_QUALITY = _Entry(
    "quality",
    "Quality over training",
    "FID should fall towards the dashed line, the distance between two halves of the real images; scores of different "
    "extractors are not comparable.",
    curves.quality_curves,
)
_LOSSES = _Entry(
    "losses",
    "Losses",
    "Losses of players that train against each other show collapse and divergence, not quality; an autoencoder's "
    "should fall.",
    curves.loss_curves,
)
_DISTORTION = _Entry(
    "distortion",
    "Distortion towards a target image",
    "The farther the line bends below the dashed one, the less an adversary must change an input for an output like "
    "the target's; the attack's radius grows along it.",
    curves.distortion_curve,
)
_SAMPLES = _Entry(
    "samples",
    "Samples",
    "Outputs of the generator as they came, not chosen for their looks; a row shows one class where classes were "
    "asked for.",
    pictures.sample_grid,
)
_RECONSTRUCTIONS = _Entry(
    "reconstructions",
    "Reconstructions",
    "Images that were not trained on, above what the autoencoder makes of them.",
    pictures.reconstruction_grid,
)
_PATHS = _Entry(
    "paths",
    "Between two codes",
    "Each row goes from one latent code to another: images should change gradually and stay plausible; equal ones show "
    "a generator that ignores its code, jumps one that has learned images by heart.",
    pictures.path_grid,
)


@dataclass(frozen=True)
class Plots:
    """All figures of a report by section."""

    diagnostics: list[Plot]
    attacks: list[Plot]
    training: list[Plot]
    samples: list[Plot]

    @property
    def all(self) -> list[Plot]:
        return [*self.diagnostics, *self.attacks, *self.training, *self.samples]


def draw_all(results: RunResults) -> Plots:
    """Draw every figure of a run."""
    return Plots(
        diagnostics=[entry.plot(results) for entry in _DIAGNOSTICS],
        attacks=[entry.plot(results) for entry in _attacks(results)],
        training=[entry.plot(results) for entry in (_QUALITY, _LOSSES)],
        samples=[entry.plot(results) for entry in _pictures(results)],
    )


def _attacks(results: RunResults) -> list[_Entry]:
    """Pictures by surface; success against the radius where several were tried, distortion towards target images."""
    entries = [_attack(surface, aimed=f"{surface}_target" in results.examples) for surface in results.surfaces]
    both = [surface for surface in results.surfaces if f"{AWARE}{surface}_clean" in results.examples]
    entries += [_attack(f"{AWARE}{surface}", aimed=False) for surface in both]
    radius = [_RADII] if radii.curves(results) else []
    return [*radius, *entries, *([_DISTORTION] if "auddc_reconstruction" in results.arrays else [])]


def _pictures(results: RunResults) -> tuple[_Entry, ...]:
    """Reconstructions only of models that reconstruct."""
    return (_SAMPLES, _RECONSTRUCTIONS, _PATHS) if "reconstructions" in results.examples else (_SAMPLES, _PATHS)


def _attack(surface: str, *, aimed: bool) -> _Entry:
    safe = "".join(letter if letter.isalnum() else "_" for letter in surface)
    plain = surface.removeprefix(AWARE)
    beside = (
        " Beside kept and lost stand two SSIM, of the output to the clean one and of the perturbed image to the clean "
        "one: it is lost where the first is below the second by more than 0.05, or was no match of its input before."
        if plain == "reconstruction"
        else ""
    )
    return _Entry(
        f"attack_{safe}",
        f"Attacks on {plain}" + ("" if plain == surface else " and the detector together"),
        f"The first {'attacks, whether or not they succeeded' if aimed else 'successful attacks'}: the input, what the "
        "adversary made of it, and the difference amplified by the factor printed beside it (mid-grey is no change). "
        f"The decision after is in bold where the attack succeeded.{beside}",
        partial(pictures.attack_grid, surface=surface),
    )
