"""What is attached to the trainer: losses, history, checkpoints, early stopping, interruption."""
