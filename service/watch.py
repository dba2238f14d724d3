"""Tells when something below a folder may have changed, as far as the file system says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import structlog
from structlog.typing import FilteringBoundLogger
from watchfiles import watch

_log: FilteringBoundLogger = structlog.get_logger()

_STEP_MS = 100
_MOST_MS = 400
"""Changes less than a step apart are told together, and at the latest after this long."""


class FolderWatch:
    """Calls back after changes below a folder.

    It helps to notice changes early, and is no proof that there are none: network file systems tell only of
    what is done on this machine.

    Args:
        changed: called on a thread of the watch.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._place: tuple[object, ...] = ()
        self._stop = Event()
        self._thread: Thread | None = None
        self._complaint = ""

    def aim(self, folder: Path) -> None:
        """Watch this folder from now on; once more, if another one has its name by now."""
        info = folder.stat()
        place = (folder, info.st_dev, info.st_ino)
        if place != self._place or self._thread is None or not self._thread.is_alive():
            self.close()
            self._place, self._stop = place, Event()
            self._thread = Thread(target=self._watch, args=(folder, self._stop), name="watch", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self, folder: Path, stop: Event) -> None:
        try:
            for _ in watch(
                folder,
                watch_filter=None,
                debounce=_MOST_MS,
                step=_STEP_MS,
                stop_event=stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._changed()
        except (OSError, RuntimeError) as error:  # no more watches, say, or the folder has just gone
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("the model repository can't be watched, only looked at", reason=str(error))
