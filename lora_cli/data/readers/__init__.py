"""Files → raw rows, one module a kind of file."""
