"""Text → rows → batches: sources, splits, the built-in corpus, collation, length buckets."""
