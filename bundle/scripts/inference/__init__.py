"""What a run of inference or evaluation does with each case: load it, skip it if it is bad, put the result back on its
grid, write or score it, and note what became of it. It may import every room but `study`."""
