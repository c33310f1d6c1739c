"""What every room may use: errors, files that are written completely or not at all, which process this is, the
colours of the classes, paths, memory. It imports no other room."""
