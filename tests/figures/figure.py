"""One figure: what it is at most or at least, how it is measured, and what came out. Policy."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """`value` is None where nothing could be measured; `beside` tells what the number alone does not.

    `spoilt`: what was promised along with the number was not kept, as `beside` tells.
    """

    value: float | None
    beside: str
    spoilt: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A promise: `measure` gives at most `bound`, or with `least` at least that."""

    id: str
    unit: str
    bound: float
    measure: Callable[[], Measured]
    least: bool = False

    def is_kept(self, measured: Measured) -> bool:
        """Whether it was measured, nothing beside spoils it, and it is within the bound."""
        if measured.value is None or measured.spoilt:
            return False
        return measured.value >= self.bound if self.least else measured.value <= self.bound
