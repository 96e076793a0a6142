"""Executes a run plan. Never sees a recipe."""
