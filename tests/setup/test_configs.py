"""Shipped configurations are found by name."""

from __future__ import annotations

from pathlib import Path

import pytest

import rexdet
from rexdet import configs


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small folder of configurations in the place of the shipped one."""
    for name in ("base.yaml", "retinanet_rexnet.yaml", "lazy/fcos_rexnet.py", "mmdet/retinanet_rexnet.py", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(configs, "config_folder", lambda: tmp_path)
    return tmp_path


def test_the_main_job_has_its_config() -> None:
    path = Path(rexdet.get_config("retinanet_rexnet"))
    assert path.is_absolute()
    assert path.is_file()


def test_parts_of_other_configs_are_not_listed(shipped: Path) -> None:
    before = configs.list_configs()
    for name in ("_base_/schedule.py", "mmdet/_base_/model.py", "lazy/__init__.py", "_common.yaml"):
        (shipped / name).parent.mkdir(exist_ok=True, parents=True)
        (shipped / name).touch()
    assert configs.list_configs() == before
    with pytest.raises(rexdet.UserError, match="no shipped config"):
        configs.get_config("_base_/schedule")


def test_names_are_paths_without_their_ending(shipped: Path) -> None:
    names = ["base", "lazy/fcos_rexnet", "mmdet/retinanet_rexnet", "retinanet_rexnet"]
    assert configs.list_configs() == names
    for name in names:
        assert Path(configs.get_config(name)).relative_to(shipped).with_suffix("").as_posix() == name
    assert configs.get_config("retinanet_rexnet.yaml") == str(shipped / "retinanet_rexnet.yaml")
    assert configs.get_config("lazy/fcos_rexnet.py") == str(shipped / "lazy" / "fcos_rexnet.py")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("retinanet_rexnt", "near names: retinanet_rexnet"),
        ("fcos_rexnet", "lazy/fcos_rexnet"),
        ("zzz", "shipped are: base"),
        ("../conftest", "no shipped config"),
        ("", "no shipped config"),
    ],
)
def test_an_unknown_name_lists_the_near_ones(shipped: Path, wrong: str, told: str) -> None:
    with pytest.raises(rexdet.UserError) as caught:
        configs.get_config(wrong)
    assert told in str(caught.value)
