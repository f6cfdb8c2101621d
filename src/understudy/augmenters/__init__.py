"""Augmenters: one file a way to change a row into a new one, which the teacher labels. `augmentation` applies them."""

from understudy.augmenters.base import AugmentationContext, Augmenter

__all__ = ["AugmentationContext", "Augmenter"]
