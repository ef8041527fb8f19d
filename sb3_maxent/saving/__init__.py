"""Checkpoints from which training goes on exactly, and export: nothing that training needs."""
