import runpod


def handler(event):
    name = event["input"]["name"]
    return f"Hello, {name}!"


runpod.serverless.start({"handler": handler})
