import threading
from collections.abc import Callable

from vigie_kit.worker import Worker


def test_a_step_repeats_while_there_is_work_then_waits() -> None:
    calls: list[str] = []
    waited = threading.Event()
    rounds = iter([True, True, False])

    def step() -> bool:
        calls.append("step")
        return next(rounds, False)

    def wait() -> None:
        calls.append("wait")
        waited.set()
        released.wait(5)

    released = threading.Event()
    worker = Worker("folding", step, wait)
    worker.start()
    assert waited.wait(5)
    assert calls == ["step", "step", "step", "wait"]
    assert worker.healthy
    released.set()
    worker.stop()
    assert not worker.healthy


def test_a_failing_step_is_told_and_retried() -> None:
    failures = iter([ValueError("disk is full"), None])
    seen: list[tuple[bool, str | None]] = []
    done = threading.Event()

    def step() -> bool:
        failure = next(failures, None)
        if failure is not None:
            raise failure
        seen.append((worker.healthy, worker.last_error))
        done.set()
        return False

    pause: Callable[[], object] = threading.Event().wait
    worker = Worker("folding", step, lambda: pause and threading.Event().wait(0.01))
    worker.start()
    assert done.wait(5)
    worker.stop()
    assert seen[0] == (False, "ValueError: disk is full")
    assert worker.last_error is None
