"""One loop, its losses, optimizer, batches, checkpoints and tracking."""
