"""Augmenters: one file a way to make another row out of a row, for the teacher to label. `augmentation` applies them."""

from understudy.augmenters.base import AugmentationContext, Augmenter

__all__ = ["AugmentationContext", "Augmenter"]
