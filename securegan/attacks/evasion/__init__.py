"""Evasion attacks: inputs moved within a radius until a decision is wrong."""
