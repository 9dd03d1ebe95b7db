"""A bound on work that may not come to an end and keeps the interpreter to itself, as a regular expression
does that backtracks: no other thread could end it, but `re` looks for signals now and then.

TookTooLong     raised into the work when its time is over
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import thread_time
from types import FrameType


class TookTooLong(Exception):
    pass


@contextmanager
def cpu_time(seconds: float) -> Iterator[None]:
    """The block has so much processor time, and up to as much again until it is noticed. Only the main thread
    hears signals: in any other one there is no bound."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    began = thread_time()

    def stop(number: int, frame: FrameType | None) -> None:
        if thread_time() - began >= seconds:  # the timer counts other threads' time as well
            raise TookTooLong

    signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
