"""What leaves a run and what enters one: the release of images, and the gate that images from outside must pass."""
