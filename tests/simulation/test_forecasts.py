"""What `tankgate buffer status` foretells comes so, on the fake clock: how long the store lasts, when all is sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.store import WAL_MAX_BYTES
from tests.simulation.parts import SECOND_US
from tests.simulation.world import HOUR_S, World

MINUTE_S = 60


@contextmanager
def cut_off(folder: Path, max_bytes: int | None = None) -> Iterator[World]:
    """A site that nothing happens to, with a clock, whose broker has been away from the beginning."""
    world = World(3, folder, is_calm=True)
    site = world.gateway.site
    if max_bytes is not None:
        world.gateway.site = replace(site, store=replace(site.store, max_bytes=max_bytes))
    world.broker.down()
    with world.gateway.in_place():
        world.start()
        world.tell_time()
        yield world
        world.gateway.cut()


def passes(world: World, seconds: float) -> None:
    world.time.run(world.time.now_us + int(seconds * SECOND_US))


def store(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.gateway.ask({"do": "buffer"})["store"]
    return found


def destination(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.gateway.ask({"do": "buffer"})["destinations"][0]
    return found


def sent(world: World) -> int:
    buffer = world.gateway.ask({"do": "buffer"})
    made = sum(last for streams in buffer["made"].values() for last in streams.values())
    return int(made - buffer["destinations"][0]["backlog_messages"])


def oldest(world: World, stream: str) -> int:
    return int(next(each["pending"][0][0] for each in destination(world)["streams"] if each["stream"] == stream))


def test_the_first_readings_are_given_up_when_the_store_said_so(tmp_path: Path) -> None:
    with cut_off(tmp_path, WAL_MAX_BYTES + 1_000_000) as world:
        passes(world, HOUR_S)
        said_hours = store(world)["hours_left"]
        before = store(world)["used_bytes"]
        passes(world, HOUR_S)
        assert store(world)["bytes_per_hour"] == pytest.approx(store(world)["used_bytes"] - before, rel=0.2)
        assert store(world)["hours_left"] == pytest.approx(said_hours - 1, abs=0.3)
        hours = 1.0
        while (oldest_data := oldest(world, "data")) == 1:
            passes(world, 5 * MINUTE_S)
            hours += 5 / 60
        assert hours == pytest.approx(said_hours, rel=0.2)
        given_up_hours = oldest_data / 720  # a batch each five seconds
        assert store(world)["hours_left"] == pytest.approx(given_up_hours, abs=0.2)


def test_a_store_with_room_for_more_lasts_as_long_as_readings_are_to_be_kept(tmp_path: Path) -> None:
    with cut_off(tmp_path) as world:
        passes(world, 2 * HOUR_S)
        assert store(world)["hours_left"] == pytest.approx(30 * 24 - 2, abs=0.1)


def test_a_backlog_goes_as_fast_and_ends_when_it_says(tmp_path: Path) -> None:
    with cut_off(tmp_path) as world:
        passes(world, 6 * HOUR_S)
        waiting = destination(world)
        assert (waiting["drained_per_s"], waiting["finished_in_s"]) == (0, None)
        assert waiting["backlog_messages"] > 4000
        world.broker.up()
        passes(world, 20)
        before = sent(world)
        passes(world, MINUTE_S)
        said = destination(world)
        assert said["drained_per_s"] == pytest.approx((sent(world) - before) / MINUTE_S, rel=0.15)
        began_us = world.time.now_us
        while destination(world)["backlog_messages"] > 10:
            passes(world, 1)
        assert (world.time.now_us - began_us) / SECOND_US == pytest.approx(said["finished_in_s"], rel=0.2)
        passes(world, 30)
        assert destination(world)["finished_in_s"] in (0, None)


def test_an_event_that_nobody_has_does_not_shorten_what_is_left_to_readings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events have room of their own, and are kept a year."""
    with cut_off(tmp_path, WAL_MAX_BYTES + 1_000_000) as world:
        district = world.broker.district
        comes = district.comes
        monkeypatch.setattr(district, "comes", lambda topic, *rest: topic.endswith("birth") or comes(topic, *rest))
        world.broker.up()
        passes(world, HOUR_S)
        said_hours = store(world)["hours_left"]
        passes(world, HOUR_S)
        assert oldest(world, "event") == 1
        assert store(world)["hours_left"] == pytest.approx(said_hours, abs=0.3)
