"""One figure: what was measured, and what it may be at most. Policy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` is None where nothing could be measured; `beside` tells what the number alone does not."""

    id: str
    value: float | None
    unit: str
    bound: float
    beside: str

    @property
    def ok(self) -> bool:
        """Whether it was measured and is at most the bound."""
        return self.value is not None and self.value <= self.bound
