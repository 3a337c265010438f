"""Sequential calls through Celery. Arguments: warm-up calls, calls, input as JSON. Prints the ms of each as a JSON list."""

import json
import sys
import time

from celery_app import echo

value = json.loads(sys.argv[3])
for _ in range(int(sys.argv[1])):
    echo.apply_async((value,)).get()
times = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    echo.apply_async((value,)).get()
    times.append((time.perf_counter() - start) * 1000)
print(json.dumps(times))
