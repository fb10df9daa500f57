"""Defences: Lightning callbacks that attach to a model's ports in ``setup``; they compose."""
