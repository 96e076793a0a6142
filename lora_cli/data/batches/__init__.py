"""Rows → what batches are made of, and in which order."""
