"""Fills Celery's queue. Arguments: jobs, input as JSON."""

import json
import sys

from celery_app import app, echo

value = json.loads(sys.argv[2])
with app.producer_or_acquire() as producer:
    for _ in range(int(sys.argv[1])):
        echo.apply_async((value,), producer=producer)
