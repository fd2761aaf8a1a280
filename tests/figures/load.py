"""What a gateway is asked to read: so many units, so many registers of each, so often. Policy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """`units` units of `registers` 16-bit registers, each register a reading, every `period_ms`."""

    units: int
    registers: int
    period_ms: int

    @property
    def per_s(self) -> int:
        """Readings each second."""
        return self.units * self.registers * 1000 // self.period_ms
