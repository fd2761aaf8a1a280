"""The outputs and buttons of a plan with their pins, and the room for them in the heap. Shell.

Owns the pins' objects. In the loop it stands as one more poller, with itself as the port, that is stepped each 10 ms.
Lies apart since most boards switch nothing: these never load it. Must never decide anything: outputs.py does.
"""

import gc
import sys

import moved
from protocols import octets, readplan, switching

_LOOK_US = 10000
# What outputs.py, pins.py, switching.py and their objects need, by the size of a word: the ring gives it.
_NEEDS_BYTES = 12288 if sys.maxsize >> 32 else 6144

_has_room = False


def make_room(recorder):
    """Set-up. Once, and before the pollers are built."""
    global _has_room
    if not _has_room:
        _has_room = True
        moved.make_room(recorder, _NEEDS_BYTES, gc.collect)


class Wired:
    """All of one plan, with the pollers that write its coils."""

    is_deaf = False
    lost = False
    waiting = False

    def __init__(self, plan, generation, pollers, recorder, board_end, now_ms, now_us):
        import pins  # they need the room that was made
        from outputs import Outputs

        by_bus = [None] * readplan.buses(plan)  # a bus without a UART has no poller
        for poller in pollers:
            by_bus[poller.bus] = poller
        places = [switching.output_at(plan, i) for i in range(switching.outputs(plan))]
        numbers = [octets.get_u16(plan, at + 1) if plan[at] == switching.PIN else None for at in places]
        self.next_us = now_us
        self._board_end = board_end
        self._outputs = Outputs(plan, generation, by_bus, recorder, now_ms)
        for poller in pollers:
            poller.outputs = self._outputs
        self._switches = [None if number is None else pins.open_output(number) for number in numbers]
        self._buttons = [pins.open_button(plan[switching.input_at(plan, i)]) for i in range(switching.inputs(plan))]

    def takes(self, board_end, now_ms, now_us, uptime):
        """Whether the command that came is one to switch an output; it is then answered."""
        command = board_end.command
        if command[0] != switching.SWITCH:
            return False
        result = self._outputs.command(command, board_end.command_bytes, board_end.number, now_ms, now_us, uptime)
        board_end.answer(result)
        self.next_us = now_us
        return True

    def step(self, now_ms, now_us, uptime):
        """What time brings, the pins as they are to be, the buttons as they are. Nothing is ever to be sent."""
        outputs = self._outputs
        outputs.work(self._board_end.present, self._board_end.heard_ms, now_ms, now_us, uptime)
        i = 0
        while i < len(self._switches):
            if self._switches[i] is not None:
                self._switches[i].drive(outputs.level[i])
            i += 1
        i = 0
        while i < len(self._buttons):
            if self._buttons[i] is not None:
                outputs.looked(i, self._buttons[i].pressed(), now_ms, uptime)
            i += 1
        self.next_us = now_us + _LOOK_US & 0x0FFFFFFF
        return False

    def read(self, buf):
        """No byte ever comes."""
        return 0

    def set_deaf(self, deaf):
        """Nothing to close its ears to."""

    def wants_reopening(self, now):
        """Never."""
        return False

    def leave(self, now_ms):
        """Another plan comes: nobody drives them any more, and they drop."""
        for switch in self._switches:
            if switch is not None:
                switch.drive(0)
