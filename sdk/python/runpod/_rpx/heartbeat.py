"""The worker's side of the ping process: starts it, tells it the running jobs, starts it again if it dies."""

import os
import signal
import sys

from ..serverless.modules.rp_logger import RunPodLogger
from ..version import __version__
from . import ping

log = RunPodLogger()

MAX_RESTARTS = 20


def _ids_file():
    """A descriptor of nameless memory that both processes read, or -1: pings then name no jobs."""
    try:
        return os.memfd_create("rpx-jobs", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        pass
    try:
        import tempfile

        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    except OSError:
        return -1


class Heartbeat:
    """Does nothing where pings are not wanted (no address, key or worker id)."""

    def __init__(self):
        self.wanted = ping.is_wanted()
        self.pid = 0
        self.restarts = 0
        self.ids = _ids_file() if self.wanted else -1

    def start(self):
        if not self.wanted:
            return
        try:
            self._spawn()
        except (OSError, ValueError) as err:
            log.warn(f"The ping process cannot start ({err}); pings come from a thread, which a busy handler can delay.")
            self._start_thread()

    def show(self, job_ids):
        """Writes the ids of the running jobs for the next ping."""
        if self.ids < 0:
            return
        try:
            os.pwrite(self.ids, ",".join(job_ids).encode("ascii", "replace")[: ping.IDS_BYTES - 1] + b"\0", 0)
        except OSError:
            pass

    def check(self):
        """Starts the process again when it is gone, a bounded number of times."""
        if not self.pid or self.restarts >= MAX_RESTARTS:
            return
        try:
            gone = os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            gone = True  # reaped by the handler's own os.wait()
        if gone:
            self.restarts += 1
            self.pid = 0
            self.start()

    def _spawn(self):
        if not sys.executable:
            raise ValueError("the interpreter's path is unknown")
        alive, ours = os.pipe()  # `ours` stays open as long as this process lives
        passed = [alive] if self.ids < 0 else [alive, self.ids]
        quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        command = [sys.executable, "-I", "-S", ping.__file__, str(os.getpid()), str(alive), str(self.ids), __version__]
        try:
            for descriptor in passed:
                os.set_inheritable(descriptor, True)
            # Blocked from its first instruction on: a signal to the whole group must not end pings while jobs still run.
            blocked = [signal.SIGTERM, signal.SIGINT]
            self.pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet, setsigmask=blocked)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(alive)
            if self.ids >= 0:
                os.set_inheritable(self.ids, False)

    def _start_thread(self):
        import threading

        alive, _ = os.pipe()
        arguments = (os.getppid(), alive, self.ids, __version__)
        threading.Thread(target=ping.main, args=arguments, name="rpx-ping", daemon=True).start()
