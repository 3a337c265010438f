import time

import runpod


def handler(event):
    text = event["input"].get("text", "one two three")
    for word in text.split():
        time.sleep(0.1)
        yield word


runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
