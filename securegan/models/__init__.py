"""Generative models: pure networks, and a LightningModule with its losses each."""
