"""Keep other packages' start-up chatter off the terminal; warnings that a user must see are not touched."""

import logging
import warnings


def quieten() -> None:
    """Called after Lightning is imported, which sets its loggers' levels, and before anything is built."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        r".*does not have many workers.*",
        r".*The number of training batches.*is smaller than the logging interval.*",
        r".*module\(s\) in eval mode at the start of training.*",  # the averaged generator
        r".*find_unused_parameters=True was specified.*",
        r".*Grad strides do not match bucket view strides.*",  # DDP copies what penalties leave in another layout
        r".*isinstance\(treespec, LeafSpec\).*",
        r".*You are using `torch.load` with `weights_only=False`.*",
    ):
        warnings.filterwarnings("ignore", message=message)
