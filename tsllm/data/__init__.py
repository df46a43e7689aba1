"""Frames in, tensors out: the only layer that sees both."""
