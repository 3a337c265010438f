"""A stand-in for the package tqdm_loggable, which Debian does not carry. Ours; it draws nothing."""
