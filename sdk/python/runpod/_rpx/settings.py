"""What the platform says through the environment, and the addresses made of it."""

import os

#: Goes out as X-Rpx-Worker: python/<this>.
SDK_VERSION = "0.1.0"


def is_production():
    """RUNPOD_WEBHOOK_GET_JOB decides between serving and a local test."""
    return bool(os.environ.get("RUNPOD_WEBHOOK_GET_JOB"))


def with_query(url, query):
    """`url` with `query` added. The platform's URLs have a query already; a bare one is tolerated."""
    return url + ("&" if "?" in url else "?") + query


def safe_id(job_id):
    """A job id as a path segment. Ids are plain; anything else is escaped rather than trusted."""
    if job_id.replace("-", "").replace("_", "").isalnum() and job_id.isascii():
        return job_id
    from urllib.parse import quote

    return quote(job_id, safe="")


class Settings:
    """Read once, when the worker starts."""

    def __init__(self):
        env = os.environ
        self.worker_id = env.get("RUNPOD_POD_ID") or os.urandom(16).hex()
        self.take_url = env["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", self.worker_id)
        self.done_template = self._template("RUNPOD_WEBHOOK_POST_OUTPUT")
        self.stream_template = self._template("RUNPOD_WEBHOOK_POST_STREAM") or self._template("RUNPOD_WEBHOOK_JOB_STREAM")
        key = env.get("RUNPOD_AI_API_KEY", "").strip()
        self.headers = f"User-Agent: rpx-python-sdk/{SDK_VERSION}\r\nX-Rpx-Worker: python/{SDK_VERSION}\r\n"
        if key:
            self.headers += f"Authorization: {key}\r\n"
        self.post_headers = self.headers + "Content-Type: application/x-www-form-urlencoded\r\ncharset: utf-8\r\n"

    def _template(self, name):
        return os.environ.get(name, "").replace("$RUNPOD_POD_ID", self.worker_id)

    def take(self, count, in_progress):
        """The address that asks for up to `count` jobs."""
        url = self.take_url
        if count > 1:
            url = with_query(url.replace("/job-take/", "/job-take-batch/"), f"batch_size={count}")
        return with_query(url, f"job_in_progress={1 if in_progress else 0}")

    def stop(self):
        """The address of the stop channel, or None when the take address has no known form."""
        if "/job-take/" not in self.take_url:
            return None
        return self.take_url.replace("/job-take/", "/job-stop/")

    def done(self, job_id, is_stream=False):
        return with_query(self.done_template.replace("$ID", safe_id(job_id)), f"isStream={'true' if is_stream else 'false'}")

    def stream(self, job_id):
        return with_query(self.stream_template.replace("$ID", safe_id(job_id)), "isStream=false")
