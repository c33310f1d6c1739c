"""One network a file, the blocks that they share, and what lets them compute in bfloat16. It may import `core`."""
