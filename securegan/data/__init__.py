"""Where images come from: prepared once into fixed records, split once, read as batches in ``[0, 1]``."""
