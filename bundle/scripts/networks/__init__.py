"""The networks, one per file, the blocks that they share, and computing in bfloat16."""
