"""The business clock of a process: the installation's line over system time."""

import math
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
        """How many seconds of system time a business duration takes: fewer on a fast clock, inf on one that stands."""
        if business_us == 0:
            return 0.0
        return business_us / SECOND_US / self.setting.rate if self.setting.rate else math.inf
