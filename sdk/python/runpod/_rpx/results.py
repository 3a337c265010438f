"""From what a handler returned, yielded or raised to the body of a post."""

import json
import os

from ..serverless.modules.rp_logger import RunPodLogger
from ..version import __version__

log = RunPodLogger()

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__))


def encode(value):
    """`value` as JSON in UTF-8, non-ASCII unescaped. NaN and the infinities are printed as Python prints them."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: no UTF-8 carries it, an escape does
        return json.dumps(value).encode()


def error_text(err, message=None):
    """The JSON text that the `error` of a failed job holds."""
    import traceback

    frames = err.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        frames = frames.tb_next
    info = {
        "error_type": str(type(err)),
        "error_message": message or str(err),
        "error_traceback": "".join(traceback.format_exception(type(err), err, frames)),
        "hostname": os.environ.get("RUNPOD_POD_HOSTNAME", "unknown"),
        "worker_id": os.environ.get("RUNPOD_POD_ID", "unknown"),
        "runpod_version": __version__,
    }
    return json.dumps(info)


def failed(err, job_id):
    """The result of a handler that raised `err`."""
    text = error_text(err)
    log.error("Captured Handler Exception", job_id)
    log.error(text, job_id)
    return {"error": text}


def returned(value):
    """The result of a handler that returned `value`."""
    if not isinstance(value, dict):
        return {"output": value}
    rest = {key: value[key] for key in value if key not in ("error", "refresh_worker")}
    result = {"output": rest} if rest else {}
    if value.get("error"):
        result["error"] = value["error"]
    if value.get("refresh_worker"):
        result["stopPod"] = True
    return result


def chunk_error(chunk):
    """The error that a yielded dict reports, as text, or None."""
    if isinstance(chunk, dict) and chunk.get("error"):
        return str(chunk["error"])
    return None


def streamed(chunks, value):
    """The result of a generator that ended. `chunks`: all of them, or None when they are not aggregated.

    Without aggregation the generator's return value is the output; a generator that returns none has [].
    """
    if chunks is not None:
        return {"output": chunks}
    return {"output": []} if value is None else returned(value)


def encode_result(result, job_id):
    """The body of the final post. A result that JSON cannot carry becomes an error that names its type."""
    try:
        return encode(result)
    except (TypeError, ValueError, RecursionError) as err:
        text = f"the handler's result cannot be sent as JSON: {err}"
        log.error(text, job_id)
        failure = {"error": error_text(err, text)}
        if result.get("stopPod"):
            failure["stopPod"] = True
        return encode(failure)
