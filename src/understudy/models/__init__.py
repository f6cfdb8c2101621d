"""Models: a network with its tokenizer, how it reads a row, and where its parts are."""
