"""The peer of a cold start: the first request, and nothing else."""

from tell import tell

tell("entered")
