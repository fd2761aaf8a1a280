"""One figure: what it is at most, how it is measured, and what came out. Policy."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """`value` is None where nothing could be measured; `beside` tells what the number alone does not."""

    value: float | None
    beside: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A promise: `measure` gives at most `bound`."""

    id: str
    unit: str
    bound: float
    measure: Callable[[], Measured]

    def is_kept(self, measured: Measured) -> bool:
        """Whether it was measured, and is at most the bound."""
        return measured.value is not None and measured.value <= self.bound
