"""The last good files: kept whole, and found whatever has become of gateway.toml."""

from pathlib import Path
from shutil import copytree

import pytest

from edge.config import examine
from edge.last_good import LAST_GOOD, find, keep, packed

SITE = Path(__file__).parents[2] / "hil_tests" / "site"
GOOD = (SITE / "gateway.toml").read_text(encoding="utf-8")


@pytest.fixture
def gateway_toml(tmp_path: Path) -> Path:
    """The example site with a profile of its own, a store elsewhere, and its files kept."""
    copytree(SITE, tmp_path / "site")
    path = tmp_path / "site" / "gateway.toml"
    path.write_text(GOOD.replace('"store"', f'"{tmp_path}/elsewhere"'), encoding="utf-8")
    (path.parent / "profiles").mkdir()
    text = (Path("protocols") / "profiles" / "vegapuls-modbus.toml").read_text(encoding="utf-8")
    (path.parent / "profiles" / "vegapuls-modbus.toml").write_text(f"{text}# ours\n", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    keep(tmp_path / "elsewhere", packed(examine(path).files))
    return path


def test_what_is_kept_gives_the_same_site_without_the_files(gateway_toml: Path) -> None:
    before = examine(gateway_toml).site
    found = find(gateway_toml)
    assert before is not None and found is not None
    assert set(found[1]) == {"gateway.toml", "points.csv", "profiles/vegapuls-modbus.toml"}
    for name in found[1]:
        (gateway_toml.parent / name).unlink()
    assert examine(gateway_toml, found[1]).site == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("schema = 1", "schema = 7"),
        lambda text: text.replace('gateway  = "jt-0042"', 'gateway  = "jt-0042'),
        lambda text: text.replace("[boards.cab1]", "［boards.cab1]"),
        lambda text: text.replace("[store]", "[ store ]  # 存储").replace("schema = 1", "schema ="),
    ],
    ids=["wrong value", "open quote", "full-width", "spaced"],
)
def test_they_are_found_by_what_is_left_of_gateway_toml(gateway_toml: Path, damage) -> None:
    text = gateway_toml.read_text(encoding="utf-8")
    assert damage(text) != text
    gateway_toml.write_text(damage(text), encoding="utf-8")
    assert examine(gateway_toml).site is None
    found = find(gateway_toml)
    assert found is not None and found[0] == gateway_toml.parents[1] / "elsewhere" / LAST_GOOD


def test_without_a_gateway_toml_they_are_found_where_systemd_keeps_state(
    gateway_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway_toml.unlink()
    assert find(gateway_toml) is None
    monkeypatch.setenv("STATE_DIRECTORY", str(gateway_toml.parents[1] / "elsewhere"))
    assert find(gateway_toml) is not None


def test_an_archive_that_was_cut_short_is_none(gateway_toml: Path) -> None:
    path = gateway_toml.parents[1] / "elsewhere" / LAST_GOOD
    path.write_bytes(path.read_bytes()[:-100])
    assert find(gateway_toml) is None


def test_a_new_one_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    keep(tmp_path, packed({"gateway.toml": b"old", "points.csv": b"old"}))
    (tmp_path / f"{LAST_GOOD}.new").write_bytes(b"half of")  # of a gateway that was killed while it wrote
    assert find(tmp_path / "gateway.toml") is None
    keep(tmp_path, packed({"gateway.toml": b"new"}))
    assert [path.name for path in tmp_path.iterdir()] == [LAST_GOOD]
