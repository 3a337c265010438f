"""How hard a post is tried. The server takes repeats for what they are, so a result is repeated for minutes."""

import time

from ..serverless.modules.rp_logger import RunPodLogger
from .wire_http import Backoff

log = RunPodLogger()

RESULT_RETRY_SECONDS = 600.0
PROGRESS_RETRY_SECONDS = 5.0
REPLY_TIMEOUT_SECONDS = 60.0


class Delivery:
    """Decides after each try: `again_after(outcome)` gives seconds to wait, or None when it is over."""

    def __init__(self, job_id, limit_seconds):
        self.job_id = job_id
        self.end = time.monotonic() + limit_seconds
        self.backoff = Backoff()
        self.told = False

    def again_after(self, outcome):
        """`outcome`: the reply, or the OSError that there was in place of one."""
        status = getattr(outcome, "status", None)
        if status is not None and status < 400:
            return None
        why = f"HTTP {status}" if status is not None else f"{type(outcome).__name__}: {outcome}"
        if status is not None and status < 500 and status not in (408, 425, 429):
            log.error(f"Failed to return job results. | {why}", self.job_id)
            return None
        if time.monotonic() >= self.end:
            log.error(f"Failed to return job results, giving up. | {why}", self.job_id)
            return None
        if not self.told:
            log.warn(f"Returning job results again. | {why}", self.job_id)
            self.told = True
        return self.backoff.next_seconds()


def deliver(client, url, headers, body, job_id, limit_seconds=RESULT_RETRY_SECONDS):
    """Posts until the server took it; the reply, or None when it was refused or the limit passed."""
    delivery = Delivery(job_id, limit_seconds)
    while True:
        try:
            outcome = client.request("POST", url, headers, body, REPLY_TIMEOUT_SECONDS)
        except OSError as err:
            outcome = err
        wait = delivery.again_after(outcome)
        if wait is None:
            return outcome if getattr(outcome, "status", 500) < 400 else None
        time.sleep(wait)
