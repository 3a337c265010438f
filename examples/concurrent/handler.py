import asyncio

import runpod


async def handler(event):
    seconds = float(event["input"].get("seconds", 1))
    await asyncio.sleep(seconds)
    return {"slept": seconds}


def concurrency_modifier(current):
    """Asked before every take: how many jobs this worker wants at once."""
    return min(current + 1, 8)


runpod.serverless.start({"handler": handler, "concurrency_modifier": concurrency_modifier})
