"""Predictions of an export over HTTP; needs the extra `serve`, and no torch."""
