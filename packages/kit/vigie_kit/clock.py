"""The business clock of a process: the installation's line over system time."""

import time

from vigie_contracts.instants import ClockSetting


class Clock:
    """Business time in microseconds; the default setting is system time."""

    def __init__(self, setting: ClockSetting | None = None) -> None:
        self.setting = setting or ClockSetting()

    def now_us(self) -> int:
        """The business instant now."""
        return self.setting.at(time.time_ns() // 1_000)
