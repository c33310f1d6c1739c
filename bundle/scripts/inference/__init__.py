"""What a run of inference or evaluation does with each case: load it, skip it if it can't be used, restore its grid,
write or score the result, and record what was done."""
