"""Sealed files and folders: a header that says for whom, and a payload that is AES-256-GCM in chunks."""

SUFFIX = ".sge"
