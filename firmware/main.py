"""The board's program: build the objects, run the one loop. Shell.

Owns the order of things: the ring is allocated first, the plan of the last time is polled whether an edge is there or
not, and the loop runs under a locked heap, left only for what needs the heap (a command, a port
that vanished).
Must never decide what is polled or sent: poller.py and link.py do.
"""

import gc
import sys

import board

RING_KIB = 64  # at most
RING_MIN_KIB = 32
# What the other modules (compiled beforehand) and every other object need beside the ring, by the size of a word.
REST_BYTES = 55296 if sys.maxsize >> 32 else 29184
GIVES_BYTES = 4096  # of the ring at a time, where a plan needs more than that: many units, two buses with outputs


def allocate_ring():
    """As large a ring as leaves room for the rest, taken before the heap is cut up by anything else."""
    gc.collect()
    kib = min((board.free_heap_bytes() - REST_BYTES) // 1024, RING_KIB)
    return bytearray(max(kib, RING_MIN_KIB) * 1024)


RING = allocate_ring()
if hasattr(gc, "threshold"):
    gc.threshold(1024)  # what is built outside the loop leaves the small heap in one piece

import hashlib  # noqa: E402

import flash  # noqa: E402
from overheard import Overheard  # noqa: E402
from poller import Poller  # noqa: E402
from protocols import link, octets, readplan  # noqa: E402
from protocols.ticks import diff  # noqa: E402
from recorder import Recorder  # noqa: E402
from uptime import Uptime  # noqa: E402

FIRMWARE = (0, 1, 0)
PLAN_FILE = "plan.bin"  # SHA-256 of the plan, then the plan; twice

# Why the loop was left.
COMMANDED = 1
PORT_LOST = 2


def skip(port, rx):
    """Drop what lies in a port that gave more at once than a reply is long: heard later, it would be a late reply."""
    left = 16  # as much as any port holds
    while left and port.read(rx) == len(rx):
        left -= 1


def loop(pollers, ports, board_end, link_port, uptime, rx, wired=None):
    """Poll, record and send until something needs the heap; COMMANDED or PORT_LOST.

    A command waits until nothing is asked, and nothing is asked meanwhile: what it does takes its time, and another
    plan would take the reply for one of its own.
    """
    while True:
        board.feed_watchdog()
        is_held = board_end.command_bytes > 0
        is_asking = False
        now_ms = board.now_ms()
        now_us = board.now_us()
        uptime.advance(now_ms)
        i = 0
        while i < len(pollers):
            port = ports[i]
            poller = pollers[i]
            if port.lost and port.wants_reopening(now_ms):
                return PORT_LOST
            if not poller.is_deaf or diff(poller.next_us, now_us) <= 0:
                count = port.read(rx)
                now_us = board.now_us()
                if count:
                    poller.received(rx, count, now_ms, now_us)
                    if count == len(rx):
                        skip(port, rx)
                # Deciding may take a chip longer than the silence.
                while diff(poller.next_us, now_us) <= 0 and (not is_held or poller.waiting or poller is wired):
                    # Where nobody answers there is always a next request: it waits too.
                    if poller.step(now_ms, now_us, uptime) and not is_held:
                        port.write(poller.request, poller.request_bytes)
                        poller.sent(now_ms, board.now_us())
                    now_us = board.now_us()
                port.set_deaf(poller.is_deaf)
            is_asking = is_asking or poller.waiting
            i += 1
        if is_held and not is_asking:
            return COMMANDED
        if link_port.lost and link_port.wants_reopening(now_ms):
            return PORT_LOST
        count = link_port.read(rx)
        if count:
            board_end.feed(rx, count, now_ms)
            if board_end.command_bytes and not is_held:
                if wired is None or not wired.takes(board_end, now_ms, now_us, uptime):
                    continue
        wait_ms = board_end.due_ms(now_ms)
        if wait_ms == 0:
            length = board_end.poll(now_ms, uptime)
            if length:
                link_port.write(board_end.wire, length)
            wait_ms = board_end.due_ms(now_ms)
        wait_us = wait_ms * 1000
        now_us = board.now_us()
        i = 0
        while i < len(pollers):
            if not is_held or pollers[i].waiting or pollers[i] is wired:
                wait_us = min(wait_us, diff(pollers[i].next_us, now_us))
            i += 1
        board.wait(wait_us)


class Plan:
    """The plan in flash and the one that is arriving."""

    def __init__(self):
        self.bytes = b""
        self.digest = b""
        self._arriving = None
        self._arriving_digest = b""
        stored = flash.load_whole(PLAN_FILE)
        if stored is not None and readplan.check(stored[32:], len(stored) - 32) == readplan.GOOD:
            self.digest = stored[:32]
            self.bytes = stored[32:]

    def generation(self):
        """Of the plan that is polled; 0 without one."""
        return readplan.generation(self.digest) if self.bytes else 0

    def obey(self, command, length):
        """One operation of the link; its result. A new plan takes effect only whole, checked and stored."""
        operation = command[0]
        if operation == link.PLAN_BEGIN and length == 35:
            size = octets.get_u16(command, 1)
            if not readplan.HEADER_BYTES <= size <= readplan.MAX_BYTES:
                return link.REFUSED
            self._arriving = None
            gc.collect()
            self._arriving = bytearray(size)
            self._arriving_digest = bytes(command[3:35])
            return link.DONE
        if operation == link.PLAN_CHUNK and length > 3 and self._arriving is not None:
            offset = octets.get_u16(command, 1)
            if offset + length - 3 > len(self._arriving):
                return link.REFUSED
            self._arriving[offset : offset + length - 3] = command[3:length]
            return link.DONE
        if operation == link.PLAN_COMMIT and self._arriving is not None:
            return self._commit()
        return link.REFUSED

    def _commit(self):
        plan = bytes(self._arriving)
        self._arriving = None
        if hashlib.sha256(plan).digest() != self._arriving_digest:
            return link.WRONG_DIGEST
        if readplan.check(plan, len(plan)) != readplan.GOOD:
            return link.WRONG_PLAN
        if not flash.save_twice(PLAN_FILE, self._arriving_digest + plan):
            return link.NOT_STORED
        self.digest = self._arriving_digest
        self.bytes = plan
        return link.DONE


def open_buses(plan):
    """The ports of the plan's buses, in its order; a bus without a UART on this board gets no poller."""
    ports = []
    for bus in range(readplan.buses(plan)):
        at = readplan.bus_at(plan, bus)
        ports.append(board.open_bus(plan[at], readplan.baud(plan, bus), plan[at + 3]))
    return ports


def build_pollers(plan, opened, recorder, overheard):
    """One for each bus that is open, in the plan's order."""
    pollers = []
    for bus, port in enumerate(opened):
        if port is not None:
            heard = overheard.setdefault(plan[readplan.bus_at(plan, bus)], Overheard(board.now_ms()))
            pollers.append(Poller(plan, bus, recorder, heard, board.now_ms(), board.now_us()))
    return pollers


def set_up(plan, recorder, board_end, overheard):
    """What polls a plan: the ports, a poller for each, and what switches its outputs, which stands among both, or None.

    MemoryError: the heap has no room for all of it.
    """
    gc.collect()
    if plan.bytes[2] == readplan.VERSION_OUTPUTS:
        from wired import make_room

        make_room(recorder)
    opened = open_buses(plan.bytes)
    ports = [port for port in opened if port is not None]
    pollers = build_pollers(plan.bytes, opened, recorder, overheard)
    if plan.bytes[2] != readplan.VERSION_OUTPUTS:
        return ports, pollers, None
    from wired import Wired

    now_ms, now_us = board.now_ms(), board.now_us()
    wired = Wired(plan.bytes, plan.generation(), pollers, recorder, board_end, now_ms, now_us)
    return ports + [wired], pollers + [wired], wired


def main():
    """Poll for ever."""
    global RING
    recorder = Recorder(RING)
    RING = None  # outputs, or many units, may need a part of it
    uptime = Uptime(board.now_ms())
    link_port = board.open_link()
    boot = board.random_bytes(4)
    board_end = link.BoardEnd(board.identity(), boot, FIRMWARE, board.reset_cause(), recorder, board.now_ms())
    plan = Plan()
    rx = bytearray(256)
    ports = []
    pollers = []
    wired = None  # outputs and buttons: most boards have none, and keep the heap for the ring
    overheard = {}  # by UART: what is known of a bus's other master outlives a plan
    polled = None  # the digest of the plan that the pollers were built from
    while True:
        if plan.bytes and plan.digest != polled:
            polled = plan.digest
            for poller in pollers:
                poller.leave(board.now_ms())
            wired = None
            ports = pollers = []  # the old ones are let go before there are new ones
            while True:
                try:
                    ports, pollers, wired = set_up(plan, recorder, board_end, overheard)
                    break
                except MemoryError:
                    import moved

                    moved.make_room(recorder, GIVES_BYTES, gc.collect)
            recorder.plan(plan.generation(), board.now_ms())
            board_end.say_hello()
        board.feed_watchdog()  # its first call makes it, and needs the heap
        gc.collect()
        board.heap_lock()
        try:
            reason = loop(pollers, ports, board_end, link_port, uptime, rx, wired)
        finally:
            board.heap_unlock()  # whatever ended it, the REPL or the traceback needs the heap
        if reason == COMMANDED:
            board_end.answer(plan.obey(board_end.command, board_end.command_bytes))
        else:
            if link_port.wants_reopening(board.now_ms()):
                link_port.reopen()
            for i, port in enumerate(ports):
                if port.wants_reopening(board.now_ms()) and port.reopen():
                    pollers[i].reopened(board.now_ms())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        board.interrupted()
        raise
    except Exception as fault:
        board.crashed(fault)
