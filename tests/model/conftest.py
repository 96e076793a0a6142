"""Fixtures of this folder's tests."""

from tests.helpers.caches import own_cache

__all__ = ["own_cache"]
