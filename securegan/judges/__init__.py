"""Independent frozen classifiers, one for each data set: who says what an image shows."""

from securegan.judges.cache import load_or_train_judge
from securegan.judges.judge import Judge

__all__ = ["Judge", "load_or_train_judge"]
