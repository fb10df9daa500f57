"""Detectors: callbacks that score images and flag those above a threshold set for a stated false-positive rate."""
