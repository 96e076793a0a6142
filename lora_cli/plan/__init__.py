"""The run plan: every value final, every value with its reason."""
