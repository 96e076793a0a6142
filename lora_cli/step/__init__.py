"""One training step as functions of plain values: what the engine runs and `memory` simulates."""
