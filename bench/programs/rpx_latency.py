"""Sequential /runsync calls over one kept connection. Arguments: URL, key, warm-up calls, calls, body.

Prints the ms of each as a JSON list.
"""

import http.client
import json
import sys
import time
from urllib.parse import urlsplit

url, key, warm_up, calls, body = sys.argv[1:]
parts = urlsplit(url)
connection = http.client.HTTPConnection(parts.hostname, parts.port)
headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}


def call():
    connection.request("POST", parts.path, body, headers)
    reply = connection.getresponse()
    answer = json.loads(reply.read())
    if answer["status"] != "COMPLETED":
        raise SystemExit(f"{reply.status}: {answer}")


for _ in range(int(warm_up)):
    call()
times = []
for _ in range(int(calls)):
    start = time.perf_counter()
    call()
    times.append((time.perf_counter() - start) * 1000)
print(json.dumps(times))
