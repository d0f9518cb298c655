"""The single writer: requests queue their drafts, one thread commits whatever waits as one synced transaction."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from vigie_contracts.errors import LimitExceeded, Unavailable
from vigie_contracts.reads import UndoAnswer, UndoRequest
from vigie_kit.logs import get
from vigie_kit.worker import Worker

from vigie_ingest.appender import Appender, Item

GROUP_EVENTS = 4_000


@dataclass(slots=True, frozen=True)
class _Job:
    items: Sequence[Item]
    future: "asyncio.Future[list[int]]"
    loop: asyncio.AbstractEventLoop


T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class _Call:
    work: Callable[[], Any]
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


Verdict = tuple[_Job, list[int] | None]


class Writer:
    """A bounded queue before an `Appender`. `submit` returns when the events are on disk."""

    def __init__(self, appender: Appender, queue_events: int) -> None:
        self._appender = appender
        self._limit = queue_events
        self._jobs: deque[_Job] = deque()
        self._calls: deque[_Call] = deque()
        self._waiting = 0
        self._condition = threading.Condition()
        self._stopping = False
        self._failed = False
        self._worker = Worker("ingest-writer", self._step, self._wait)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def stop(self) -> None:
        """End after what is queued was written."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._worker.stop()

    @property
    def problem(self) -> str | None:
        """Why events cannot be written now, or None."""
        return None if self._worker.healthy else self._worker.last_error or "the writer does not run"

    @property
    def waiting(self) -> int:
        """Events in the queue."""
        return self._waiting

    @property
    def end(self) -> int:
        """The last number of the log."""
        return self._appender.end

    async def submit(self, items: Sequence[Item]) -> list[int]:
        """Outcomes as `Appender.append` gives them. LimitExceeded when too much waits; Unavailable when it failed."""
        loop = asyncio.get_running_loop()
        job = _Job(items, loop.create_future(), loop)
        with self._condition:
            if self._waiting and self._waiting + len(items) > self._limit:
                raise LimitExceeded("more events wait than can be written in time; send again after the pause")
            self._jobs.append(job)
            self._waiting += len(items)
            self._condition.notify()
        return await job.future

    async def call(self, work: Callable[[], T]) -> T:
        """What `work` answers, done by the writer's thread between two groups; its error is raised here."""
        loop = asyncio.get_running_loop()
        call = _Call(work, loop.create_future(), loop)
        with self._condition:
            self._calls.append(call)
            self._condition.notify()
        answer: T = await call.future
        return answer

    async def undo(self, asked: UndoRequest) -> UndoAnswer:
        """Take back a merge or an undo as `Appender.undo` does, with its errors."""
        return await self.call(lambda: self._appender.undo(asked))

    def _wait(self) -> None:
        with self._condition:
            if not self._jobs and not self._calls and not self._stopping:
                self._condition.wait(0.25)

    def _step(self) -> bool:
        if self._calls:
            _perform(self._calls.popleft())
            return True
        jobs = self._take()
        if not jobs:
            if self._failed:
                self._appender.probe()
                self._failed = False
            self._appender.settle(idle=True)
            return False
        try:
            verdicts = self._written(jobs)
        except Exception:
            self._failed = True
            _answer([(job, None) for job in jobs])
            raise
        self._failed = False
        _answer(verdicts)
        self._appender.settle(idle=False)
        return True

    def _take(self) -> list[_Job]:
        taken: list[_Job] = []
        size = 0
        with self._condition:
            while self._jobs and (not taken or size + len(self._jobs[0].items) <= GROUP_EVENTS):
                job = self._jobs.popleft()
                size += len(job.items)
                taken.append(job)
            self._waiting -= size
        return taken

    def _written(self, jobs: list[_Job]) -> list[Verdict]:
        try:
            outcomes = self._appender.append([item for job in jobs for item in job.items])
        except Exception as error:  # supervisor: one poisonous request must not fail its neighbours
            if len(jobs) == 1:
                raise
            get(__name__).exception("a group was not written; its requests are tried alone", error=str(error))
            return [self._alone(job) for job in jobs]
        verdicts: list[Verdict] = []
        start = 0
        for job in jobs:
            verdicts.append((job, outcomes[start : start + len(job.items)]))
            start += len(job.items)
        return verdicts

    def _alone(self, job: _Job) -> Verdict:
        try:
            return job, self._appender.append(job.items)
        except Exception:  # supervisor: answered 503, and the sender tries again
            get(__name__).exception("a request was not written")
            return job, None


def _perform(call: _Call) -> None:
    try:
        answer = call.work()
    except Exception as error:  # supervisor: told to who asked; the writer goes on
        call.loop.call_soon_threadsafe(_settle, call.future, None, error)
    else:
        call.loop.call_soon_threadsafe(_settle, call.future, answer, None)


def _settle(future: "asyncio.Future[Any]", answer: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)


def _answer(verdicts: list[Verdict]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Verdict]] = {}
    for verdict in verdicts:
        by_loop.setdefault(verdict[0].loop, []).append(verdict)
    for loop, own in by_loop.items():
        loop.call_soon_threadsafe(_resolve, own)


def _resolve(verdicts: list[Verdict]) -> None:
    for job, outcomes in verdicts:
        if job.future.done():
            continue
        if outcomes is None:
            job.future.set_exception(Unavailable("the events could not be written; send them again"))
        else:
            job.future.set_result(outcomes)
