"""Checkpoints from which training continues exactly, and export. Training itself needs none of this."""
