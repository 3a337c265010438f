"""progress_update(job, progress): shows `progress` as the job's output while it runs."""


def progress_update(job, progress):
    """Queues the update and returns at once. `progress` is any JSON value, read before this returns.

    Updates of one job are sent in order, and before its result. In a local test nothing is sent.
    """
    from ..._rpx import progress as channel

    channel.update(job, progress)
