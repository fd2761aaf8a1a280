"""What lies in flash twice: old or new wherever the power fails, and whole where a byte is flipped."""

import flash

PLAN = "plan.bin"
COPIES = (PLAN, PLAN + "2")


def content(plan):
    return flash.hashlib.sha256(plan).digest() + plan


OLD = content(b"the old plan")
NEW = content(b"the new plan")
NEWER = content(b"the newest plan")


class PowerFailed(Exception):
    pass


class Card:
    """A file system in `files` whose power fails at the `left`-th operation, which is then done by half.

    In the `refused`-th one it says that it is full.
    """

    def __init__(self, files, left=0, refused=0):
        self.files = files
        self.left = left
        self.refused = refused

    def operate(self):
        """Whether it is the last operation."""
        self.left -= 1
        self.refused -= 1
        if self.refused == 0:
            raise OSError(28)
        return self.left == 0

    def open(self, name, mode):
        if mode == "rb" and name not in self.files:
            raise OSError(2)
        if mode == "wb":
            is_last = self.operate()
            self.files[name] = b""
            if is_last:
                raise PowerFailed
        return File(self, name)

    def rename(self, old, new):
        if self.operate():
            raise PowerFailed
        self.files[new] = self.files.pop(old)

    def does(self, what, *arguments):
        """What flash.py does on this card; None where the power failed."""
        flash.open, flash.os = self.open, self
        try:
            return what(*arguments)
        except PowerFailed:
            return None
        finally:
            flash.open = open
            flash.os = __import__("os")


class File:
    def __init__(self, card, name):
        self.card = card
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        pass

    def read(self):
        return self.card.files[self.name]

    def write(self, data):
        is_last = self.card.operate()
        self.card.files[self.name] += data[: len(data) // 2] if is_last else data
        if is_last:
            raise PowerFailed


def load(files):
    return Card(files).does(flash.load_whole, PLAN)


def both(data):
    return {name: data for name in COPIES}


def test_each_copy_is_old_or_new_wherever_the_power_fails_and_fails_again():
    first = 0
    is_done = False
    while not is_done:
        first += 1
        once = both(OLD)
        is_done = Card(once, first).does(flash.save_twice, PLAN, NEW) is True
        assert all(once[name] in (OLD, NEW) for name in COPIES), first
        assert load(once) == once[PLAN], first
        for second in range(1, 8):
            twice = dict(once)
            saved = Card(twice, second).does(flash.save_twice, PLAN, NEWER)
            assert all(twice[name] in (OLD, NEW, NEWER) for name in COPIES), (first, second)
            assert load(twice) == twice[PLAN] and (saved is None or load(twice) == NEWER), (first, second)
    assert first == 7 and once == both(NEW)  # three operations a copy


def test_a_flipped_byte_costs_one_copy_and_never_the_plan():
    for at in range(len(NEW)):
        flipped = bytearray(NEW)
        flipped[at] ^= 1 << at % 8
        flipped = bytes(flipped)
        assert load({COPIES[0]: flipped, COPIES[1]: NEW}) == NEW, at
        assert load({COPIES[0]: NEW, COPIES[1]: flipped}) == NEW, at
        assert load(both(flipped)) is None, at


def test_a_copy_that_is_missing_or_cut_off_is_none():
    assert load({}) is None
    assert load({COPIES[1]: NEW}) == NEW
    assert load({COPIES[0]: NEW}) == NEW  # as a board has it whose firmware knew one copy
    for length in range(len(NEW)):
        assert load({COPIES[0]: NEW[:length], COPIES[1]: OLD}) == OLD, length
        assert load(both(NEW[:length])) is None, length


def test_what_the_flash_does_not_take_once_is_not_saved():
    for refused in range(1, 7):
        files = both(OLD)
        is_saved = Card(files, refused=refused).does(flash.save_twice, PLAN, NEW)
        assert is_saved == (refused > 3), refused
        assert load(files) == (NEW if is_saved else OLD), refused
