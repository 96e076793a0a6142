"""One file a command: read the arguments, call the work, show the result."""
