"""Composition: what a user does, one module per step, over the layers below."""
