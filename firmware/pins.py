"""The pins that a board drives, and those with a button. Shell.

`pins_host.py` has the same names over pseudo-terminals. Lies apart from board.py since most boards use none.
Must never decide anything.
"""

from board import driven, machine


class Output:
    """A pin that drives a relay or a lamp; low until it is told otherwise."""

    def __init__(self, number):
        self._pin = machine.Pin(number, machine.Pin.OUT, value=0)
        driven.append(self._pin)

    def drive(self, level):
        """1: energised."""
        self._pin(level)


class Button:
    """A pin that a button pulls to ground."""

    def __init__(self, number):
        self._pin = machine.Pin(number, machine.Pin.IN, machine.Pin.PULL_UP)

    def pressed(self):
        """1 or 0."""
        return 1 - self._pin()


def open_output(number):
    """The output on a pin; None where this chip has no such pin."""
    try:
        return Output(number)
    except ValueError:
        return None


def open_button(number):
    """The button on a pin; None where this chip has no such pin."""
    try:
        return Button(number)
    except ValueError:
        return None
