"""How a run is measured: sample sizes, extractors and cadence. The constructor is the ``metrics`` config group."""

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from securegan.configuration.extractors import ExtractorName
from securegan.configuration.types import NonNegativeInt, PositiveFloat, PositiveInt
from securegan.metrics.inception import Stage


class Protocol:
    """Numbers that stand beside every figure of a run."""

    def __init__(
        self,
        *,
        every_n_epochs: PositiveInt = 1,
        choose_after: Annotated[float, Ge(0), Lt(1)] = 0.8,
        generated: Annotated[int, Ge(2)] = 1000,
        kept_features: Annotated[int, Ge(2)] = 5000,
        fidelity_references: PositiveInt = 256,
        fidelity_epoch_images: PositiveInt = 256,
        epoch_attack_images: NonNegativeInt = 128,
        epoch_steps: PositiveInt = 10,
        epoch_restarts: PositiveInt = 1,
        test_attack_images: PositiveInt = 1000,
        latent_attack_images: PositiveInt = 200,
        eps_factors: Sequence[PositiveFloat] = (),
        check_images: NonNegativeInt = 128,
        audit: Literal["quick", "full"] = "quick",
        inception_weights: str | None = None,
        inception_download: bool = False,
        inception_stage: Stage = 2048,
        extractors: Sequence[str] = (),
    ) -> None:
        """Args:
        every_n_epochs: an evaluation each so many epochs, and always after the last.
        choose_after: share of the epochs before any may be chosen, in every run alike: earlier, class heads are half
            trained, and runs with and without a defence would be compared at different ages.
        generated: outputs for the scores, fidelity and the detector.
        kept_features: at most so many features of either side enter KID, precision, recall, density and coverage.
        fidelity_references: held-out real images that outputs are compared with.
        fidelity_epoch_images: outputs whose fidelity is computed at evaluation epochs (all of them at the end).
        epoch_attack_images: inputs per surface at evaluation epochs (half as many codes); 0 is off.
        epoch_steps, epoch_restarts: of the attack at evaluation epochs, at most its own.
        test_attack_images: inputs per pixel surface at the end, with the attack's own restarts.
        latent_attack_images: codes of the latent surface at the end; each step goes through generator and judge.
        eps_factors: at the end, success is measured at these multiples of the attack's radius as well, such as
            ``[0.25,0.5,1,2]``; each costs an attack on what survived the one before.
        check_images: inputs of the gradient-masking checks; 0 is off.
        audit: which of these checks: full ones take minutes (10,000 random draws, restarts, rescaled logits).
        inception_weights, inception_download: the reference Inception network, by file or checksummed download.
        inception_stage: the features to score in: 2048 for the figures of papers, 64, 192 or 768 of an earlier stage,
            which need fewer images and carry the number in their name.
        extractors: other networks to score in, each ``torchvision:NETWORK:WEIGHTS`` (a file) or ``judge:FILE`` (the
            judge of another data set); see :mod:`securegan.metrics.backbone`.

        Raises:
            ConfigError: an extractor written otherwise.
        """
        self.every_n_epochs, self.choose_after = every_n_epochs, choose_after
        self.generated, self.kept_features = generated, kept_features
        self.fidelity_references, self.fidelity_epoch_images = fidelity_references, fidelity_epoch_images
        self.epoch_attack_images = epoch_attack_images
        self.epoch_steps, self.epoch_restarts = epoch_steps, epoch_restarts
        self.test_attack_images, self.latent_attack_images = test_attack_images, latent_attack_images
        self.eps_factors = tuple(eps_factors)
        self.check_images, self.audit = check_images, audit
        self.inception_weights, self.inception_download = inception_weights, inception_download
        self.inception_stage = inception_stage
        self.extractors = [ExtractorName.parse(written) for written in extractors]

    def may_choose(self, epoch: int, epochs: int) -> bool:
        """Whether the checkpoint of 0-based ``epoch`` of ``epochs`` may be chosen; that of the last one always may."""
        return epoch + 1 > self.choose_after * epochs

    def due(self, epoch: int, last: int) -> bool:
        """Whether 0-based ``epoch`` is evaluated in a run whose last epoch is ``last``."""
        return (epoch + 1) % self.every_n_epochs == 0 or epoch == last
