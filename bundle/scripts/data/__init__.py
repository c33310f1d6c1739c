"""Finding, pairing, splitting and reading files: layouts of folders, the datalist, label maps, stacks of slices, codes
in place of names. It may import `core`."""
