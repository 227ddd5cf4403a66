"""Work done ahead, in a thread of its own, so that the stages of a video run side by side."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_END = object()
_GLANCE_SEC = 0.05  # between looks at whether the caller still wants more


def ahead(items: Iterable[Item], most: int) -> Iterator[Item]:
    """The items, each made in another thread while the caller works on those before; at most so many wait.

    What their making raises is raised here, in its turn. Once the caller stops, nothing more is made.
    """
    ready: queue.Queue = queue.Queue(maxsize=most)
    stopped, failure = threading.Event(), []

    def put(item) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=_GLANCE_SEC)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        iterator = iter(items)
        try:
            try:
                for item in iterator:
                    if not put(item):
                        break
            finally:
                if hasattr(iterator, "close"):
                    iterator.close()  # here, where it ran: what it holds may belong to this thread
        except BaseException as error:
            failure.append(error)
        put(_END)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            yield item
        if failure:
            raise failure[0]
    finally:
        stopped.set()
        thread.join()
