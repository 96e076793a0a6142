"""Rows → tokens → batches: reading, masking, ordering. Knows no model and no optimizer."""
