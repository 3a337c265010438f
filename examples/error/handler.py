import runpod


def handler(event):
    divisor = event["input"].get("divisor", 0)
    return {"result": 1 / divisor}


runpod.serverless.start({"handler": handler})
