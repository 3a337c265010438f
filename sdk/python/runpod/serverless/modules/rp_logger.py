"""RunPodLogger: one JSON object per line on an endpoint, aligned text elsewhere."""

import json
import os
import sys
from contextvars import ContextVar

MAX_MESSAGE_LENGTH = 4096
LOG_LEVELS = ["NOTSET", "TRACE", "DEBUG", "INFO", "WARN", "ERROR"]

#: The batch of the job that is being handled, put before its lines.
batch_id = ContextVar("runpod_batch_id", default=None)


def _level_name(level):
    if isinstance(level, str) and level.upper() in LOG_LEVELS:
        return level.upper()
    if isinstance(level, int) and not isinstance(level, bool) and 0 <= level < len(LOG_LEVELS):
        return LOG_LEVELS[level]
    raise ValueError(f"Invalid debug level: {level}")


def _cut(message):
    if len(message) <= MAX_MESSAGE_LENGTH:
        return message
    half = MAX_MESSAGE_LENGTH // 2
    note = f"\n...TRUNCATED {len(message) - MAX_MESSAGE_LENGTH} CHARACTERS...\n"
    return message[:half] + note + message[-half:]


class RunPodLogger:
    """One logger for the whole process. Lines go to stdout in a single write, so threads do not mix them."""

    _instance = None
    level = _level_name(os.environ.get("RUNPOD_LOG_LEVEL") or os.environ.get("RUNPOD_DEBUG_LEVEL") or "DEBUG")

    def __new__(cls):
        if cls._instance is None:
            cls._instance = object.__new__(cls)
        return cls._instance

    def set_level(self, new_level):
        """Takes a level's name or its number."""
        self.level = _level_name(new_level)
        self.info(f"Log level set to {self.level}")

    def log(self, message, message_level="INFO", job_id=None):
        if self.level == "NOTSET":
            return
        if message_level != "TIP" and LOG_LEVELS.index(self.level) > LOG_LEVELS.index(message_level):
            return
        message = str(message)
        batch = batch_id.get()
        message = _cut(f"[batchId={batch}] {message}" if batch else message)
        if os.environ.get("RUNPOD_ENDPOINT_ID"):
            line = json.dumps({"requestId": job_id, "message": message, "level": message_level})
        else:
            line = f"{message_level.ljust(7)}| " + (f"{job_id} | {message}" if job_id else message)
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except (OSError, ValueError, AttributeError):
            pass  # nobody reads any more, or stdout is closed: a log line must not end a job

    def secret(self, secret_name, secret):
        """Logs that a secret is set: its first and last character only."""
        text = str(secret)
        hidden = text[0] + "*" * (len(text) - 2) + text[-1] if len(text) > 2 else "*" * len(text)
        self.info(f"{secret_name}: {hidden}")

    def trace(self, message, request_id=None):
        self.log(message, "TRACE", request_id)

    def debug(self, message, request_id=None):
        self.log(message, "DEBUG", request_id)

    def info(self, message, request_id=None):
        self.log(message, "INFO", request_id)

    def warn(self, message, request_id=None):
        self.log(message, "WARN", request_id)

    def error(self, message, request_id=None):
        self.log(message, "ERROR", request_id)

    def tip(self, message):
        self.log(message, "TIP")
