"""What the world says: the machine, the base model, the data. Frozen values; no weights read."""
