"""Examples → tokens and labels, a task each."""
