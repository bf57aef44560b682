"""Data sets as uint8 tensors on the training device, with batched augmentation there."""
