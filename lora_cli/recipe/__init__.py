"""The recipe: its schema, its reader and its errors."""
