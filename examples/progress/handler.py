import time

import runpod


def handler(event):
    steps = int(event["input"].get("steps", 3))
    for step in range(1, steps + 1):
        runpod.serverless.progress_update(event, f"step {step} of {steps}")
        time.sleep(0.5)
    return {"steps": steps}


runpod.serverless.start({"handler": handler})
