"""What secures an emitted image: encryption (``envelope``), keys, signature, provenance and the audit log.

Works on any file or array, and knows neither torch nor Lightning.
"""
