"""What a board switches, and its buttons: coils on its buses and pins of its own, those of the plan alone. Policy.

Owns what each output is to be, how long a command may still be obeyed, what the loss of the Pi does, and the records of
all that; a poller writes the coils, ahead of what it reads. Must never look at a clock (`now_ms` and `now_us` are
28-bit counters), drive a pin, or switch anything but for a command or the loss of the Pi. Allocates nothing after its
construction; a board whose plan switches nothing does not even load it.
"""

from array import array

from protocols import link, modbus, readplan, switching
from protocols.octets import get_u16, put_u16, put_u28
from protocols.ticks import diff

TRIES = 2  # of a write, one after the other
AGAIN_MS = 1000  # what the loss of the Pi asks for is tried again after it, until it is done
BOUNCE_MS = 30


class Outputs:
    """All outputs and inputs of one plan. `level`: by output, what a pin is to be driven to.

    `pollers` are those of the plan's buses, None where a bus has no UART.
    """

    def __init__(self, plan, generation, pollers, recorder, now_ms):
        count = switching.outputs(plan)
        self.plan = plan
        self.count = count
        self.inputs = switching.inputs(plan)
        self.level = bytearray(count)
        self._generation = generation
        self._recorder = recorder
        self._at = array("H", [switching.output_at(plan, i) for i in range(count)])
        self._flags = bytearray([plan[at + 3] for at in self._at])
        self._pollers = [self._poller_of(at, pollers) for at in self._at]
        self._reads = bytearray([self._read_of(i) for i in range(count)])  # by which a coil's unit is known
        self._pending = bytearray(count)
        self._tries = bytearray(count)
        self._cause = bytearray(count)
        self._number = array("H", [0 for _ in range(count)])
        self._until_ms = array("I", [0 for _ in range(count)])  # of a command
        self._again_ms = array("I", [now_ms for _ in range(count)])
        # Whether what the loss of the Pi asks for was done. Before the Pi is heard for the first time, all is not well.
        self._lost = bytearray([1 if flags & switching.FAULT else 0 for flags in self._flags])
        self._pressed = bytearray(self.inputs)
        self._changing = bytearray(self.inputs)
        self._since_ms = array("I", [now_ms for _ in range(self.inputs)])
        self._body = bytearray(switching.SWITCHED_BYTES)

    def _poller_of(self, at, pollers):
        """Set-up. The poller of an output's bus."""
        unit = self.plan[at]
        return None if unit == switching.PIN else pollers[self.plan[readplan.unit_at(self.plan, unit)]]

    def _read_of(self, place):
        """Set-up. Where its poller has a read of an output's unit."""
        poller = self._pollers[place]
        if poller is None:
            return 0
        plan = self.plan
        return [plan[readplan.read_at(plan, read)] for read in poller.reads].index(plan[self._at[place]])

    def command(self, body, length, number, now_ms, now_us, uptime):
        """Obey switching.SWITCH: DONE, or REFUSED whatever this plan does not list."""
        if length != switching.SWITCH_BYTES or get_u16(body, 1) != self._generation:
            return link.REFUSED
        place = body[3]
        if place >= self.count or body[4] > 1 or self._flags[place] & switching.FAULT:
            return link.REFUSED
        if self._pollers[place] is None and not self._is_pin(place):
            return link.REFUSED
        self._number[place] = number
        self._until_ms[place] = now_ms + get_u16(body, 5) & 0x0FFFFFFF
        self._order(place, body[4], switching.COMMANDED, now_ms, now_us, uptime)
        return link.DONE

    def work(self, present, heard_ms, now_ms, now_us, uptime):
        """What time alone brings: commands that are over, and the loss of the Pi, heard last at `heard_ms`."""
        silent_ms = diff(now_ms, heard_ms)
        place = 0
        while place < self.count:
            if self._pending[place] and self._cause[place] == switching.COMMANDED:
                if diff(now_ms, self._until_ms[place]) >= 0:
                    self._close(place, modbus.TIMEOUT, now_ms, uptime)
            if present:
                if self._lost[place]:
                    self._lost[place] = 0
                    if self._flags[place] & switching.FAULT:
                        self._order(place, 1, switching.LINK_BACK, now_ms, now_us, uptime)
            elif not self._lost[place]:
                loss_ms = 100 * get_u16(self.plan, self._at[place] + 4)
                if silent_ms >= loss_ms:
                    self._lost[place] = 1
                    self._lose(place, now_ms, now_us, uptime)
            place += 1

    def _lose(self, place, now_ms, now_us, uptime):
        flags = self._flags[place]
        if flags & switching.ON_AT_LOSS:
            self._order(place, 1, switching.LINK_LOST, now_ms, now_us, uptime)
        elif flags:
            self._order(place, 0, switching.LINK_LOST, now_ms, now_us, uptime)

    def _is_pin(self, place):
        return self.plan[self._at[place]] == switching.PIN

    def _order(self, place, value, cause, now_ms, now_us, uptime):
        self.level[place] = value
        self._cause[place] = cause
        self._tries[place] = 0
        self._again_ms[place] = now_ms
        if cause != switching.COMMANDED:
            self._number[place] = 0
        if self._is_pin(place):
            self._tell(place, value, modbus.OK, now_ms, uptime)
        elif self._pollers[place] is not None and not self._pending[place]:
            self._pending[place] = 1
            self._pollers[place].writes += 1
            self._pollers[place].next_us = now_us

    # --- for the pollers --------------------------------------------------------------------------------------------

    def lay(self, poller, now_ms):
        """Lay out in a poller the write that is next on its bus: that of which output, or -1."""
        place = 0
        while place < self.count:
            if self._pending[place] and self._pollers[place] is poller and diff(now_ms, self._again_ms[place]) >= 0:
                word = 0xFF00 if self.level[place] else 0
                address = get_u16(self.plan, self._at[place] + 1)
                if poller.lay_write(self._reads[place], address, word, now_ms):
                    return place
            place += 1
        return -1

    def ended(self, place, value, outcome, now_ms, uptime):
        """How the write of `value` ended."""
        if value != self.level[place] or not self._pending[place]:  # ordered anew meanwhile, or its time was over
            return
        self._tries[place] += 1
        if outcome == modbus.OK or outcome == modbus.EXCEPTION or self._tries[place] >= TRIES:
            if outcome != modbus.OK and self._cause[place] != switching.COMMANDED:
                self._tries[place] = 0
                self._again_ms[place] = now_ms + AGAIN_MS & 0x0FFFFFFF
            else:
                self._close(place, outcome, now_ms, uptime)

    def _close(self, place, outcome, now_ms, uptime):
        self._pending[place] = 0
        self._pollers[place].writes -= 1
        self._tell(place, self.level[place], outcome, now_ms, uptime)

    def _tell(self, place, value, outcome, now_ms, uptime):
        body = self._body
        body[0] = place
        body[1] = value
        body[2] = outcome
        body[3] = self._cause[place]
        at = put_u16(body, 4, self._number[place])
        put_u16(body, put_u28(body, at, uptime.s), uptime.ms)
        self._recorder.told(switching.SWITCHED, body, switching.SWITCHED_BYTES, True, now_ms)

    # --- buttons ----------------------------------------------------------------------------------------------------

    def looked(self, place, pressed, now_ms, uptime):
        """Whether the button of an input is pressed; contacts bounce."""
        if pressed == self._pressed[place]:
            self._changing[place] = 0
        elif not self._changing[place]:
            self._changing[place] = 1
            self._since_ms[place] = now_ms
        elif diff(now_ms, self._since_ms[place]) >= BOUNCE_MS:
            self._changing[place] = 0
            self._pressed[place] = pressed
            body = self._body
            body[0] = place
            body[1] = pressed
            put_u16(body, put_u28(body, 2, uptime.s), uptime.ms)
            self._recorder.told(switching.INPUT, body, switching.INPUT_BYTES, True, now_ms)
