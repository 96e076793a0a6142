"""What is learnt from a batch, one file a task: collation, loss, metrics."""
