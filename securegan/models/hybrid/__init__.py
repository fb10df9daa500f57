"""The hybrid of GAN and VAE."""
