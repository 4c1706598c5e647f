"""`tools/models.py --ssdlite` and MMDetection's built SSDLite detectors count the same parameters."""

from __future__ import annotations

import json

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from rexdet.cli import execute
from rexdet.configs import get_config
from rexdet.mmdet import complete_config

# Millions, as the ReXNet paper's Table 6 prints them to one decimal (5.0, 5.7, 8.4) and counting gives them.
PRINTED = {"rexnet_0.9": 4.985, "rexnet_1.0": 5.682, "rexnet_1.3": 8.426}


@pytest.mark.parametrize("name", [*PRINTED, "rexnet_lite_1.0"])
def test_the_table_and_the_built_detector_agree(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("models", [name, "--ssdlite", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["detectors"]
    config = Config.fromfile(get_config("mmdet/ssdlite_rexnet"))
    config.model.backbone.name = name
    init_default_scope("mmdet")
    complete_config(config)
    model = MODELS.build(config.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == row["parameters"]
    if name in PRINTED:
        assert round(row["parameters"] / 1e6, 3) == PRINTED[name]
