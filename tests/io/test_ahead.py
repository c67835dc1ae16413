import gc
import threading
import time

import pytest

from segic_d2.io.ahead import ahead


def threads():
    return sum(t.name == "segic_d2 ahead" for t in threading.enumerate())


def until(condition):
    """Wait for a thread, 5 s at most."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    assert condition()


class Counted:
    """Numbers from 0 on, and how many were made."""

    def __init__(self, end=10**6):
        self.made, self.end, self.closed = 0, end, False

    def __iter__(self):
        return self

    def __next__(self):
        if self.made == self.end:
            raise StopIteration
        self.made += 1
        return self.made - 1

    def close(self):
        self.closed = True


def test_keeps_the_order_and_ends():
    assert list(ahead(iter(range(50)))) == list(range(50))
    assert threads() == 0


def test_makes_two_and_no_more_before_they_are_asked_for():
    items = Counted()
    taken = ahead(items)
    assert items.made == 0  # not before the first is asked for
    for number in range(3):
        assert next(taken) == number
        until(lambda made=number + 3: items.made == made)
        time.sleep(0.02)
        assert items.made == number + 3
    taken.close()


@pytest.mark.parametrize("live", [False, True])
def test_ends_its_thread_when_it_is_abandoned(live):
    items = Counted()
    taken = ahead(items, live=live)
    next(taken)
    assert threads() == 1
    del taken
    gc.collect()
    assert threads() == 0 and items.closed


def test_raises_behind_what_came_before():
    def items():
        yield from (1, 2, 3)
        raise ValueError("broken")

    taken, found = ahead(items()), []
    with pytest.raises(ValueError, match="broken"):
        found.extend(iter(lambda: next(taken), None))
    assert threads() == 0
    taken = ahead(items())
    assert [next(taken) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match="broken"):
        next(taken)


def test_live_gives_the_latest():
    go = threading.Semaphore(0)

    def items():
        for number in range(6):
            go.acquire()
            yield number

    taken = ahead(items(), live=True)
    go.release()
    assert next(taken) == 0
    go.release(5)
    until(lambda: threads() == 0)  # all were made, nobody asked
    assert list(taken) == [5]
