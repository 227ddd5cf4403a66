"""Work done ahead, in a thread of its own, so that the stages of a video run side by side."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_END = object()
_GLANCE_SEC = 0.05  # between looks at whether the caller still wants more
_LAST_ITEM_SEC = 5.0  # that the item in the making may take once nobody waits for it: a disk may never answer


def ahead(
    items: Iterable[Item],
    most: int,
    should_stop: Callable[[], bool] = lambda: False,
    patient: bool = False,
    over: threading.Event | None = None,
) -> Iterator[Item]:
    """The items, each made in another thread while the caller works on those before; at most so many wait.

    What their making raises is raised here, in its turn. Once the caller stops, nothing more is made. The items end
    where the next is not ready when `should_stop()`. The item in the making is waited for, 5 seconds at most
    unless `patient`. `over` is set before that, so that what is waited for need not wait itself.
    """
    ready: queue.Queue = queue.Queue(maxsize=most)
    stopped, failure = over or threading.Event(), []

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

    def take():
        while True:
            try:
                return ready.get(timeout=_GLANCE_SEC)
            except queue.Empty:
                if should_stop():
                    return _END

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := take()) is not _END:
            yield item
        if failure:
            raise failure[0]
    finally:
        stopped.set()
        thread.join(None if patient else _LAST_ITEM_SEC)
