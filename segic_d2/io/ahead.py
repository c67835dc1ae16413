"""Items that a thread makes before they are asked for."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], most: int = 2, live: bool = False) -> Iterator[T]:
    """The same items in the same order, made in a thread of their own, at most ``most`` before they
    are asked for. With ``live`` the thread never waits, and only the latest item is kept.

    An exception of the items is raised behind those that came before it. The thread ends, and
    closes a generator, with the last item and where this generator is closed or forgotten.
    """
    ready: deque[T] = deque(maxlen=1 if live else None)
    changed, stopped, ended = threading.Condition(), False, False
    failure: list[BaseException] = []

    def work() -> None:
        nonlocal ended
        try:
            while True:
                with changed:
                    changed.wait_for(lambda: stopped or live or len(ready) < most)
                    if stopped:
                        break
                item = next(items)
                with changed:
                    ready.append(item)
                    changed.notify_all()
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001  raised where the items are taken
            failure.append(error)
        finally:
            getattr(items, "close", lambda: None)()
            with changed:
                ended = True
                changed.notify_all()

    thread = threading.Thread(target=work, name="segic_d2 ahead", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: ready or ended)
                if not ready:
                    break
                item = ready.popleft()
                changed.notify_all()
            yield item
            del item  # a frame may be large
        if failure:
            raise failure[0]
    finally:
        with changed:
            stopped = True
            changed.notify_all()
        if thread is not threading.current_thread():  # where a collection of garbage may run
            thread.join()
