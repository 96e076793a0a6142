"""Which modules of a base model a recipe adapts."""
