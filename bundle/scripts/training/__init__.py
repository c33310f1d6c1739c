"""What is attached to the trainer: losses, history, checkpoints, early stopping, interruption. It may import `core`,
`run`, `data`, `networks` and `check`."""
