"""Networks that cannot be had are one sentence."""

import pytest

from securegan.configuration.compose import compose_checked
from securegan.data.batch import DataSpec
from securegan.errors import UserError
from securegan.models.building import build_model


@pytest.mark.parametrize("width", [10**12, 10**18, 10**30])
@pytest.mark.parametrize("model", ["gan", "vae", "hybrid"])
def test_a_width_beyond_memory_is_one_sentence(model: str, width: int) -> None:
    name = "generator_width" if model == "gan" else "encoder_width"
    (config,) = compose_checked([f"model={model}", f"model.{name}={width}", "attack=none", "logger=none"])
    with pytest.raises(UserError, match="the model cannot be built for images of 32x32 pixels") as caught:
        build_model(config.model, DataSpec("digits", 1, 32, 10, tuple("0123456789"), 0.1, "0" * 32), 0)
    assert "\n" not in str(caught.value)
