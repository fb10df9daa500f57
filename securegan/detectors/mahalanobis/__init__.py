"""Mahalanobis distances in the discriminator's intermediate features (Lee et al. 2018, arXiv 1807.03888)."""
