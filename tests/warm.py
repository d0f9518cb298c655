"""Our own programs as processes of their own, forked from one that has imported their libraries already.

A start costs a fork instead of the seconds that XGBoost, Feast and MLflow need to be imported. What such a process
does, and how it dies, is what `python -m MODULE` does; the tests of `vigie up` and of the command line start that.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.warm_imports"])


class WarmProcess:
    """`python -m module arguments` with the methods of Popen; both outputs are appended to files."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str],
        output: Path,
        errors: Path | None = None,
        folder: Path = ROOT,
    ) -> None:
        given = (module, list(arguments), dict(environment), str(output), str(errors or output), str(folder))
        self._process: BaseProcess = _CONTEXT.Process(target=_main, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code; minus the signal's number when one ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it ended; subprocess.TimeoutExpired when it did not in time."""
        self._process.join(timeout)
        if (code := self.returncode) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run(
    module: str, *arguments: str, environment: Mapping[str, str], folder: Path = ROOT, timeout: float = 300
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end, as subprocess.run does with captured text."""
    with tempfile.TemporaryDirectory() as kept:
        out, err = Path(kept) / "out", Path(kept) / "err"
        process = WarmProcess(module, arguments, environment=environment, output=out, errors=err, folder=folder)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess([module, *arguments], code, out.read_text(), err.read_text())


def _main(module: str, arguments: list[str], environment: dict[str, str], out: str, err: str, folder: str) -> None:
    """What the forked process does."""
    for target, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(opened, target)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
