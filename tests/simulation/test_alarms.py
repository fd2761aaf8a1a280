"""No alarm and no horn takes longer than `check` says, on the fake clock; and one that does is seen to. Shell."""

from pathlib import Path

import pytest

from edge.outputs import Outputs
from tests.simulation.alarm_world import AlarmWorld, Took


def live(seed: int, folder: Path, are_quick: bool, changes: int) -> list[Took]:
    world = AlarmWorld(seed, folder, are_quick)
    with world.gateway.in_place():
        took = list(world.run(changes))
        world.gateway.cut()
    return took


@pytest.mark.parametrize("are_quick", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_no_alarm_takes_longer_than_check_says(seed: int, are_quick: bool, tmp_path: Path) -> None:
    took = live(seed, tmp_path, are_quick, 40)
    assert [each for each in took if each.is_late] == []
    assert max(each.horn_ms / each.horn_most_ms for each in took) > 0.3  # and what it says is no idle number
    assert all(each.alarm_ms < each.horn_ms for each in took)


def test_a_horn_that_is_never_ordered_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outputs, "due", lambda *_arguments: [])
    assert all(each.is_late for each in live(1, tmp_path, True, 3))


def test_an_order_that_goes_with_the_next_second_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    due = Outputs.due
    seldom = lambda self, wanted, now_s: due(self, wanted, now_s) if now_s % 2 < 0.01 else []  # noqa: E731
    monkeypatch.setattr(Outputs, "due", seldom)
    assert any(each.is_late for each in live(1, tmp_path, True, 40))
