"""Conversations → text, and where the answers in it are."""
