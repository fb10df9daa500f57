"""What is measured at every evaluation epoch and at the end: quality, robustness, detection and the audit.

Reads models, attacks and detectors, computes through ``metrics/``, trains nothing and leaves no trace in the module.
"""
