"""Attacks of other libraries, under our threat models and judged by us."""
