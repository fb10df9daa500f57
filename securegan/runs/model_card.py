"""The model card of an exported generator: YAML front matter and Markdown, as model hubs read it.

Figures stand in it only where they were measured of these very weights (Mitchell et al. 2019, arXiv 1810.03993, for
what a card should say).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from securegan.errors import UserError

UNKNOWN = "unknown  # choose before you publish"
CLASSES_SHOWN = 20


def check_license(license: str | None) -> None:
    """Raises UserError where ``license`` is given and not an identifier."""
    if license is not None and not all(letter.isascii() and (letter.isalnum() or letter in ".-") for letter in license):
        raise UserError(f"--license={license} is not an identifier: expected letters, digits, '.' and '-', as in mit.")


def model_card(
    config: Mapping[str, Any], results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], license: str | None
) -> str:
    """The card's text.

    Args:
        config: config.json of the export.
        results: of the run's metrics.json, empty where the run was not tested.
        rows: its evaluations.
        license: identifier such as ``mit``; None is marked as a choice still to be made.
    """
    labelled = bool(config["num_classes"])
    kind = "class-conditional" if labelled else "unconditional"
    size, channels = config["data"]["size"], config["data"]["channels"]
    parts = [
        f"---\nlicense: {license or UNKNOWN}\nlibrary_name: securegan\npipeline_tag: unconditional-image-generation\n"
        "tags:\n- image-generation\n- securegan\n---",
        f"# A generator of {size}x{size} images\n\nA {kind} generator, trained with SecureGAN "
        f"{config['securegan']} on the data set {_code(config['data']['name'])}. {_weights(config)}",
        f"## Loading\n\n```python\n{_loading(config)}\n```\n\nInput: codes `z (N, {config['latent_dim']})` of the "
        "standard normal distribution"
        + (f" and classes `y (N,)` int64 below {config['num_classes']}" if labelled else "")
        + f". Output: images `(N, {channels}, {size}, {size})` in [0, 1].\n\nSHA-256 of `{config['weights']['file']}`: "
        f"`{config['weights']['sha256']}`",
        f"## Training data\n\n{_data(config, results)}",
        f"## Figures\n\n{_figures(config, results, rows)}",
        f"## Intended use and limits\n\n{_limits(config)}",
        f"## Licence\n\n{_licence(license)}",
    ]
    return "\n\n".join(parts) + "\n"


def _weights(config: Mapping[str, Any]) -> str:
    about = config["weights"]
    kind = "The exponential moving average of its weights" if about["averaged"] else "Its weights as trained"
    chosen = "the checkpoint chosen on the validation split" if about["checkpoint"] == "best" else "the last checkpoint"
    return f"{kind}, of {chosen} (epoch {about['epoch']}, {about['images_seen']:,} training images seen)."


def _loading(config: Mapping[str, Any]) -> str:
    """Four images in three lines, below the imports."""
    n, codes = 4, f"torch.randn(4, {config['latent_dim']})"
    classes = f"torch.arange({n}) % {config['num_classes']}" if config["num_classes"] else ""
    given = ", ".join(filter(None, [codes, classes]))
    form, file = config["weights"]["format"], config["weights"]["file"]
    if form == "safetensors":
        return (
            "import torch\nfrom securegan.runs.export import load_generator\n\n"
            f'generator = load_generator(".")  # the folder of this file\nimages = generator({given})'
        )
    if form == "torchscript":
        return f'import torch\n\ngenerator = torch.jit.load("{file}")\nimages = generator({given})'
    inputs = ", ".join(
        f'"{name}": ({value}).numpy()' for name, value in zip("zy", filter(None, [codes, classes]), strict=False)
    )
    return (
        f'import onnxruntime\nimport torch\n\nsession = onnxruntime.InferenceSession("{file}")\n'
        f"images = session.run(None, {{{inputs}}})[0]"
    )


def _data(config: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    spec = config["data"]
    splits = results.get("protocol", {}).get("data", {}).get("splits", {})
    sizes = ", ".join(f"{name} {n:,}" for name, n in splits.items()) or "not recorded: the run was not tested"
    names = [_code(name) for name in spec["class_names"]]
    more = f" and {len(names) - CLASSES_SHOWN} more" if len(names) > CLASSES_SHOWN else ""
    classes = f"{spec['num_classes']}: {', '.join(names[:CLASSES_SHOWN])}{more}" if spec["num_classes"] else "none"
    return (
        f"- Data set: {_code(spec['name'])}, digest `{spec['digest']}`\n- Images of each split: {sizes}; the weights "
        f"were trained on `train` alone\n- Classes: {classes}"
    )


def _figures(config: Mapping[str, Any], results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    found = _measured(config["weights"], results, rows)
    if found is None:
        return "None were measured of these very weights."
    lines = ["| figure | value | 95 % interval | n | split |", "|---|---|---|---|---|"]
    for key, value in found["metrics"].items():
        if not (key.startswith("quality/") or key.endswith("_latent")):
            continue  # of the discriminator or of detectors, which are not in this file
        low, high = found.get("interval", {}).get(key, (None, None))
        interval = f"{_number(low)} to {_number(high)}" if low is not None else "-"
        lines.append(f"| `{key}` | {_number(value)} | {interval} | {found['n'].get(key, '-')} | {found['split']} |")
    return "\n".join(lines) + "\n\n" + _protocol(results.get("protocol", {}))


def _measured(
    weights: Mapping[str, Any], results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The test of these weights or, where there was none, the evaluation after their epoch."""
    if not weights["averaged"]:
        return None
    test = results.get("test")
    if test and test["epoch"] == weights["epoch"]:
        return dict(test)
    return next((row for row in rows if row["epoch"] == weights["epoch"]), None)


def _protocol(protocol: Mapping[str, Any]) -> str:
    """How quality was measured, as far as it is recorded."""
    quality = protocol.get("quality", {})
    digests = {key.removeprefix("digest_"): value for key, value in quality.items() if key.startswith("digest_")}
    lines = [f"- Extractor {_code(key)}: sha256 `{digest}`" for key, digest in digests.items()]
    told = {"n_fake": "generated images", "n_real": "real images", "weights": "weights", "seed": "seed"}
    for key, word in told.items():
        if (value := quality.get(key, protocol.get(key))) is not None:
            lines.append(f"- {word.capitalize()}: {value}")
    floors = {key.removeprefix("floor_"): v for key, v in quality.items() if key.startswith("floor_fid_")}
    lines += [
        f"- {_code(key)} between two halves of the real images: {_number(value)}" for key, value in floors.items()
    ]
    lines += [f"- Checkpoint chosen by: {protocol['selection']}"] if protocol.get("selection") else []
    lines.append(
        "- FID and IS of one extractor and digest compare runs on one data set, nothing else; only `fid_inception` and "
        "`is_inception` compare with papers. Figures of the validation split chose the checkpoint and flatter it."
    )
    return "\n".join(lines)


def _limits(config: Mapping[str, Any]) -> str:
    spec = config["data"]
    return (
        "For research on generative models and their robustness, and as a component whose outputs are checked. It "
        f"shows what its training data ({_code(spec['name'])}) show, with their gaps and biases, at "
        f"{spec['size']}x{spec['size']} pixels and no more. Single images can be misshapen or of another class than "
        "asked for. It was not examined for copies of training images, and was not trained with privacy guarantees. "
        "Its codes can be attacked: small changes of `z` may change what an image shows. Its images carry no watermark "
        "unless the run's configuration trained one in, and must not be passed off as photographs."
    )


def _licence(license: str | None) -> str:
    if license is not None:
        return f"`{license}`, as chosen by whoever exported it."
    return (
        "**Not chosen yet: choose one before you publish**, in the first lines of this file too. The training data's "
        "own terms may bind it."
    )


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and math.isfinite(value) else "not a number"


def _code(text: str) -> str:
    """Any text as inline code on one line of a table or list."""
    return "`" + " ".join(text.replace("`", "'").replace("|", "/").split()) + "`"
