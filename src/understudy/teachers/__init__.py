"""Teachers: models, ensembles or files of outputs; their outputs for rows, and the store that caches them."""
