"""Training: lessons, the Trainer, and `train`, which runs it."""
