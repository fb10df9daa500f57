"""The class-conditional GAN."""
