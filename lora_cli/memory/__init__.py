"""What a plan's step needs of memory, told before any weight is read."""
