"""The life of one alarm: every state times every event, and a second description of ISA-18.2 to compare with."""

from itertools import product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from edge.alarms import lifecycle
from edge.alarms.lifecycle import EVENTS, Facts, Kind, step

PROCESS = ("raise", "clear", "ack", "reset", "re_alarm")
# ISA-18.2's drawing, for an alarm that does not latch: state -> event -> state. What is not drawn changes nothing.
PLAIN = {
    "NORM": {"raise": "UNACK"},
    "UNACK": {"clear": "RTNUN", "ack": "ACKED", "re_alarm": "UNACK"},
    "ACKED": {"clear": "NORM", "re_alarm": "UNACK"},
    "RTNUN": {"raise": "UNACK", "ack": "NORM"},
}
# And for one that latches: its cause may be gone (small letters), and it stands all the same.
LATCHING = {
    "NORM": {"raise": "UNACK"},
    "UNACK": {"clear": "unack", "ack": "ACKED", "re_alarm": "UNACK"},
    "ACKED": {"clear": "acked", "re_alarm": "UNACK"},
    "unack": {"raise": "UNACK", "ack": "acked", "re_alarm": "unack"},
    "acked": {"raise": "UNACK", "reset": "NORM", "re_alarm": "unack"},
}


def every_facts():
    """All that an alarm can be, one of each."""
    for active, acked, latched, shelved, suppressed, out in product((False, True), repeat=6):
        yield Facts(active, acked, latched, 3, 9000 if shelved else None, suppressed, out)


@pytest.mark.parametrize("event", EVENTS)
def test_every_state_has_a_result_for_every_event(event):
    for facts, latches, shelvable in product(every_facts(), (False, True), (False, True)):
        result = step(facts, Kind(latches, shelvable), event, occurrence=3, until_ms=5000)
        assert isinstance(result, Facts) or (isinstance(result, str) and result.islower())
        if isinstance(result, Facts):
            assert result.state in ("NORM", "UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "OOSRV")


def test_only_a_person_acknowledges():
    for facts, event in product(every_facts(), EVENTS):
        result = step(facts, Kind(True), event, occurrence=3, until_ms=5000)
        if event != "ack" and isinstance(result, Facts):
            assert facts.acked or not result.acked


def test_an_acknowledgement_names_what_it_saw():
    facts = step(step(Facts(), Kind(), "raise"), Kind(), "clear")
    again = step(facts, Kind(), "raise")
    assert again.occurrence == 2
    assert step(again, Kind(), "ack", occurrence=1) == lifecycle.OTHER_OCCURRENCE
    assert step(again, Kind(), "ack", occurrence=2).state == "ACKED"
    with pytest.raises(ValueError, match="names an occurrence"):
        step(again, Kind(), "ack")


def test_a_re_alarm_is_not_acknowledged_by_who_saw_the_first():
    acked = step(step(Facts(), Kind(), "raise"), Kind(), "ack", occurrence=1)
    again = step(acked, Kind(), "re_alarm")
    assert again.state == "UNACK"
    assert step(again, Kind(), "ack", occurrence=1) == lifecycle.OTHER_OCCURRENCE


def test_a_latched_alarm_is_reset_only_when_acknowledged_and_over():
    kind = Kind(latches=True)
    raised = step(Facts(), kind, "raise")
    assert step(raised, kind, "reset") == lifecycle.STILL_ACTIVE
    over = step(raised, kind, "clear")
    assert over.state == "UNACK"
    assert step(over, kind, "reset") == lifecycle.ACKNOWLEDGE_FIRST
    acked = step(over, kind, "ack", occurrence=1)
    assert acked.state == "ACKED"
    assert step(acked, kind, "reset").state == "NORM"


def test_what_lies_over_an_alarm_hides_nothing_of_it():
    raised = step(Facts(), Kind(), "raise")
    shelved = step(raised, Kind(), "shelve", until_ms=9000)
    assert (shelved.state, shelved.stage) == ("SHLVD", "UNACK")
    assert step(step(shelved, Kind(), "clear"), Kind(), "unshelve").state == "RTNUN"
    out = step(step(shelved, Kind(), "suppress"), Kind(), "out_of_service")
    assert [out.state, step(out, Kind(), "in_service").state] == ["OOSRV", "DSUPR"]
    assert step(raised, Kind(can_be_shelved=False), "shelve", until_ms=9000) == lifecycle.NEVER_SHELVED


class Beside(RuleBasedStateMachine):
    """Random events; after each, the state is what the drawing says, with what lies over it drawn apart."""

    def __init__(self):
        super().__init__()
        self.latches = False
        self.facts = Facts()
        self.drawn = "NORM"
        self.over = set()
        self.raised = 0

    @rule(
        event=st.sampled_from(EVENTS),
        latches=st.booleans(),
        sees=st.sampled_from(("this one", "another")),
    )
    def happens(self, event, latches, sees):
        if self.drawn == "NORM":
            self.latches = latches
        drawing = LATCHING if self.latches else PLAIN
        occurrence = self.raised if sees == "this one" else self.raised + 1
        result = step(self.facts, Kind(self.latches), event, occurrence=occurrence, until_ms=7)
        if event in PROCESS and not (event == "ack" and sees == "another"):
            after = drawing[self.drawn].get(event)
            if after:
                self.drawn = after
                self.raised += event in ("raise", "re_alarm")
                assert isinstance(result, Facts)
        elif event in ("shelve", "suppress", "out_of_service"):
            self.over.add(event)
        elif event in ("unshelve", "unsuppress", "in_service"):
            self.over.discard({"unshelve": "shelve", "unsuppress": "suppress", "in_service": "out_of_service"}[event])
        if isinstance(result, Facts):
            self.facts = result
        over = [name for name in ("out_of_service", "suppress", "shelve") if name in self.over]
        names = {"out_of_service": "OOSRV", "suppress": "DSUPR", "shelve": "SHLVD"}
        assert self.facts.state == (names[over[0]] if over else self.drawn.upper())
        assert self.facts.occurrence == self.raised


Beside.TestCase.settings = settings(max_examples=100, stateful_step_count=50)
test_random_lives_are_as_they_are_drawn = Beside.TestCase
