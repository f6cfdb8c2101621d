"""Training: the Trainer, and the one function that runs it."""
