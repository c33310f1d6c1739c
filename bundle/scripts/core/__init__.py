"""Small things that every room may use: errors, atomic writing of files, the rank of a process, the colours of the
classes, the bundle's paths, and the memory of a CPU."""
