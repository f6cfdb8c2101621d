"""Teachers: models, ensembles or files of outputs; what they say of rows, and the store that keeps it."""
