"""Every option a user may choose, the constructor that owns it, and the schema read off that constructor.

The defaults of a component live in its constructor alone. Hydra sees them as ``schema/<group>/<option>``, served by a
config source that imports a component only when a configuration asks for it, so that ``conf/<group>/<option>.yaml``
says no more than ``defaults: [/schema/<group>/<option>@_here_]`` and what differs.
"""

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING, OmegaConf

from securegan.configuration.allowlist import resolve

OPTIONS: dict[str, dict[str, str]] = {
    "data": {
        "digits": "securegan.data.digits.Digits",
        "folder": "securegan.data.folder.Folder",
        "mnist": "securegan.data.torchvision_sets.MNIST",
        "fashion_mnist": "securegan.data.torchvision_sets.FashionMNIST",
        "cifar10": "securegan.data.torchvision_sets.CIFAR10",
    },
    "model": {
        "gan": "securegan.models.gan.lightning_model.GAN",
        "gan_strong": "securegan.models.gan.lightning_model.GAN",
        "hybrid": "securegan.models.hybrid.lightning_model.Hybrid",
        "hybrid_strong": "securegan.models.hybrid.lightning_model.Hybrid",
        "vae": "securegan.models.vae.lightning_model.VAE",
    },
    "attack": {
        "advgan": "securegan.attacks.evasion.advgan.AdvGAN",
        "apgd": "securegan.attacks.evasion.apgd.APGD",
        "art": "securegan.attacks.adapters.art.ART",
        "boundary": "securegan.attacks.evasion.boundary.Boundary",
        "cw": "securegan.attacks.evasion.cw.CarliniWagner",
        "deepfool": "securegan.attacks.evasion.deepfool.DeepFool",
        "few_pixel": "securegan.attacks.evasion.few_pixel.FewPixel",
        "fgsm": "securegan.attacks.evasion.fgsm.FGSM",
        "foolbox": "securegan.attacks.adapters.foolbox.Foolbox",
        "genattack": "securegan.attacks.evasion.genattack.GenAttack",
        "hopskipjump": "securegan.attacks.evasion.hopskipjump.HopSkipJump",
        "pgd": "securegan.attacks.evasion.pgd.PGD",
        "square": "securegan.attacks.evasion.square.Square",
        "suite": "securegan.attacks.evasion.suite.Suite",
        "torchattacks": "securegan.attacks.adapters.torchattacks.Torchattacks",
        "transfer": "securegan.attacks.evasion.transfer.Transfer",
        "vae_damage": "securegan.attacks.evasion.vae_damage.VAEDamage",
        "vae_latent": "securegan.attacks.evasion.vae_latent.VAELatent",
        "vae_output": "securegan.attacks.evasion.vae_output.VAEOutput",
    },
    "defense": {
        "adversarial_training": "securegan.defenses.adversarial_training.AdversarialTraining",
        "gradient_penalty": "securegan.defenses.gradient_penalty.GradientPenalty",
    },
    "detector": {"mahalanobis": "securegan.detectors.mahalanobis.callback.Mahalanobis"},
    "security": {
        "full": "securegan.release.settings.Security",
        "signed": "securegan.release.settings.Security",
    },
    "trainer": {
        "default": "securegan.runs.trainer.build_trainer",
        "ddp": "securegan.runs.trainer.build_trainer",
    },
    "logger": {
        "csv": "securegan.reports.csv_logger.CSVLogger",
        "wandb": "securegan.reports.wandb_logger.WandbLogger",
    },
    "metrics": {"default": "securegan.evaluation.protocol.Protocol"},
}
"""Dotted target of each option of each group."""

SEVERAL = frozenset({"defense", "detector", "logger"})
"""Groups of which a run may choose several options at once: each lies under its own name, ``defense.<option>``."""

OPTIONAL = frozenset({"attack", "defense", "detector", "security", "logger"})
"""Groups a run may do without, with the option ``none``, which leaves their node empty."""


def parameters_of(target: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """``{name: (annotation, default)}`` of the keyword-only parameters; ``Parameter.empty`` where none is given.

    A constructor that ends in ``**`` passes on to the next class above it, whose parameters it has as well.
    """
    owners = target.__mro__ if inspect.isclass(target) else ()
    calls: list[Callable[..., Any]] = [c.__dict__["__init__"] for c in owners if "__init__" in c.__dict__] or [target]
    found: dict[str, tuple[Any, Any]] = {}
    for call in calls:
        hints = typing.get_type_hints(call, include_extras=True)
        parameters = inspect.signature(call).parameters
        for name, parameter in parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                found.setdefault(name, (hints.get(name, Any), parameter.default))
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return found


def schema_of(target: str) -> dict[str, Any]:
    """The configuration of ``target``: ``_target_`` and its keyword-only parameters with their defaults.

    A parameter without a default becomes ``???``, which Hydra and :func:`~securegan.configuration.validate.validate`
    ask the user for.
    """
    settings = {
        name: MISSING if default is inspect.Parameter.empty else _plain(default)
        for name, (_, default) in parameters_of(resolve(target)).items()
    }
    return {"_target_": target, **settings}


def _plain(default: object) -> object:
    """``default`` in the containers that YAML has.

    Raises:
        TypeError: a constructor's default is not plain data, which is a programming error.
    """
    if default is None or isinstance(default, bool | int | float | str):
        return default
    if isinstance(default, Path):
        return str(default)
    if isinstance(default, list | tuple | set | frozenset):
        return [_plain(item) for item in default]
    if isinstance(default, dict):
        return {str(key): _plain(value) for key, value in default.items()}
    raise TypeError(f"a configurable default must be plain data, not {type(default).__name__}")


class SchemaSource(ConfigSource):
    """Serves :func:`schema_of` of every option as ``schema/<group>/<option>``; unlisted in Hydra's help."""

    @staticmethod
    def scheme() -> str:
        return "securegan-schema"

    def load_config(self, config_path: str) -> ConfigResult:
        target = self._target(config_path)
        if target is None:
            raise ConfigLoadError(f"there is no schema {config_path}")
        config = OmegaConf.create(schema_of(target))
        return ConfigResult(config=config, path=config_path, provider=self.provider, header={"package": None})

    def is_config(self, config_path: str) -> bool:
        return self._target(config_path) is not None

    def is_group(self, config_path: str) -> bool:
        head, _, group = config_path.strip("/").partition("/")
        return head == "schema" and (not group or group in OPTIONS)

    def available(self) -> bool:
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return []

    @staticmethod
    def _target(config_path: str) -> str | None:
        match config_path.strip("/").removesuffix(".yaml").split("/"):
            case ["schema", group, option]:
                return OPTIONS.get(group, {}).get(option)
        return None


class SchemaSearchPath(SearchPathPlugin):
    """Puts :class:`SchemaSource` behind the configuration folder on every Hydra search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("securegan", f"{SchemaSource.scheme()}://")


def register_schema() -> None:
    """Make the schemas known to Hydra. Harmless when repeated."""
    plugins = Plugins.instance()
    if SchemaSearchPath not in plugins.discover(SearchPathPlugin):
        plugins.register(SchemaSource)
        plugins.register(SchemaSearchPath)
