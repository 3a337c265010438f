"""The peer of a warm resume: asks, is frozen while its answer is held back, and makes its next request when it goes on."""

from tell import tell

while True:
    tell("held")
    tell("entered")
