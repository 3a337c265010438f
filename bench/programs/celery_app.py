"""Celery's side: an echo task. BENCH_REDIS: the broker, which also keeps the results."""

import os

from celery import Celery

app = Celery("celery_app", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])


@app.task
def echo(value):
    return value
