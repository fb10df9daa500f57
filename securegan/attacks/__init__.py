"""Attacks: one engine over surfaces. An attack sees a surface and inputs, never a model; it knows no Lightning."""
