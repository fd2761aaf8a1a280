"""Some lives of the whole chain on the fake clock; and that a chain which breaks its word is seen to."""

import pytest

from edge.pipeline import Pipeline
from protocols import link
from tests.simulation.__main__ import live


@pytest.mark.parametrize("seed", range(4))
def test_every_answer_is_received_once_or_told_as_missing(seed: int) -> None:
    verdict, done = live(seed, hours=0.5)
    assert verdict.faults == [], (f"seed {seed}", done)
    assert verdict.readings + 10 * verdict.missing == 10 * verdict.answers > 5000


def _forget_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Pipeline.take

    def take(self, each, now_s):
        kept = [record for record in each.records if record[1] != link.SAMPLE or record[2][2] % 16]
        taken(self, type(each)(each.board, each.boot, kept, each.next_record, each.lost, each.clock), now_s)

    monkeypatch.setattr(Pipeline, "take", take)


def _skip_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    number = Pipeline._number

    def skipping(self, stream):
        seq = number(self, stream)
        return seq if seq % 50 else number(self, stream)

    monkeypatch.setattr(Pipeline, "_number", skipping)


def _tell_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "_tell_missing", lambda *_arguments: None)


@pytest.mark.parametrize(
    ("breaks", "tells"),
    [
        (_forget_a_sample, "0 readings came"),
        (_skip_a_number, "not at rest"),
        (_tell_no_gap, "0 readings came"),
    ],
)
def test_a_chain_that_breaks_its_word_is_found_out(breaks, tells, monkeypatch) -> None:
    breaks(monkeypatch)
    verdict, _done = live(3, hours=0.5)
    assert any(tells in fault for fault in verdict.faults)
