"""A handler that tells when it was entered."""

import runpod
from tell import tell


def handler(job):
    tell("entered")
    return job["input"]


runpod.serverless.start({"handler": handler})
