"""Notices when the event loop stands still: then commands go unanswered."""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable

log = logging.getLogger(__name__)

_BEAT = 0.5  # seconds
_ALLOWED = 1.0  # seconds


async def watch(on_stall: Callable[[], None], on_beat: Callable[[float], None]) -> None:
    """For ever. Where the loop stands is logged while it stands there.

    *on_beat* is told every half second how late the loop is, in seconds.
    """
    clock = asyncio.get_running_loop().time
    beats, ended = threading.Event(), threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(threading.get_ident(), beats, ended), name="watchdog", daemon=True
    )
    watcher.start()
    try:
        while True:
            began = clock()
            await asyncio.sleep(_BEAT)
            beats.set()
            stood = clock() - began - _BEAT
            on_beat(max(stood, 0.0))
            if stood > _ALLOWED:
                log.warning("the event loop stood still for %.1f s", stood)
                on_stall()
    finally:
        ended.set()
        beats.set()


def _watch(watched: int, beats: threading.Event, ended: threading.Event) -> None:
    while not ended.is_set():
        if not beats.wait(_BEAT + _ALLOWED):
            stack = traceback.format_stack(sys._current_frames()[watched])
            log.warning("the event loop stands still:\n%s", "".join(stack))
            beats.wait()
        beats.clear()
