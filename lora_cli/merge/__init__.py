"""An adapter and its base → one checkpoint that needs no adapter."""
