"""SecureGAN: train image generators, attack, defend and watch them, and say how far they can be trusted."""

__version__ = "0.1.0"
