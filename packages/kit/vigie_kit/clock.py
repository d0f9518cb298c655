"""The business clock of a process: the installation's line over system time."""

import time

from vigie_contracts.instants import SECOND_US, ClockSetting


class Clock:
    """Business time in microseconds; the default setting is system time."""

    def __init__(self, setting: ClockSetting | None = None) -> None:
        self.setting = setting or ClockSetting()

    def now_us(self) -> int:
        """The business instant now."""
        return self.setting.at(time.time_ns() // 1_000)

    def system_seconds(self, business_us: int) -> float:
        """How many seconds of system time a business duration takes: on an accelerated clock fewer than it says."""
        return business_us / SECOND_US / self.setting.rate
