"""RetinaNet in MMDetection over our network, beside the same detector over timm's `features_only` network."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.bench.alternate import alternate
from rexdet.bench.backbone import PEERS
from rexdet.configs import get_config
from rexdet.errors import UserError

SIZE = 256
BATCH = 2
CONFIG = "mmdet/retinanet_rexnet"
# Ours and theirs compute the same maps; the order of the additions is not the same.
AGREEMENT = 1e-3


class TimmFeatures(nn.Module):
    """timm's `features_only` network as an MMDetection backbone: (B, 3, H, W) -> maps of strides 4, 8, 16 and 32."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm

        self.body: Any = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4))

    @property
    def channels(self) -> list[int]:
        """Channels of each map."""
        return list(self.body.feature_info.channels())

    def fill(self, classifier: dict[str, Tensor]) -> None:
        """Load the weights of timm's classifier, whose blocks `features_only` numbers another way."""
        own = self.body.state_dict()
        self.body.load_state_dict({key: classifier[key.replace("features_", "features.", 1)] for key in own})

    def init_weights(self) -> None:
        """MMDetection asks each part for it; the weights are those that `fill` loaded."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.body(x))


def run(network: str = "rexnet_1.0", *, rounds: int = 15) -> list[dict[str, Any]]:
    """Rows of one run in which both detectors take turns: iterations a second, and how many times ours are.

    Raises UserError where timm or MMDetection is missing, or timm has no such network.
    """
    if network not in PEERS:
        raise UserError(f"timm has no counterpart of {network}", fix=f"use one of {', '.join(PEERS)}")
    detectors = build_pair(network)
    rows = []
    for what, make in (("training step", _training), ("prediction", _prediction)):
        functions = {name: make(detector) for name, detector in detectors.items()}
        seconds = alternate(functions, rounds, what)
        rows.append(
            {
                "what": f"RetinaNet in MMDetection, {what}, {BATCH} pictures of {SIZE} px",
                "timm iterations/s": round(1 / seconds["timm"], 2),
                "ours iterations/s": round(1 / seconds["ours"], 2),
                "ours / timm": round(seconds["timm"] / seconds["ours"], 3),
            }
        )
    return rows


def build_pair(network: str) -> dict[str, Any]:
    """The detector over timm's backbone and over ours, all weights equal. Raises UserError where their maps are not."""
    _check_installed()
    import timm
    from mmdet.registry import MODELS
    from mmengine.logging import MMLogger
    from mmengine.registry import init_default_scope

    import rexdet.mmdet as plugin
    from rexdet.mmdet.plan import read_config

    init_default_scope("mmdet")
    cfg = read_config(get_config(CONFIG))
    classifier = timm.create_model(PEERS[network]).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(classifier, path)
        cfg.model.backbone = {
            "type": "RexDetBackbone",
            "name": network,
            "norm_cfg": {"type": "BN"},
            "norm_eval": False,
            "frozen_stages": -1,
            "init_cfg": {"type": "Pretrained", "checkpoint": str(path)},
            "pixels": "imagenet",
        }
        plugin.complete_config(cfg)
        ours: Any = MODELS.build(cfg.model)
        logger = MMLogger.get_current_instance()
        level = logger.level
        # It tells of every tensor, on the stream that the table is for.
        logger.setLevel("ERROR")
        ours.init_weights()
        logger.setLevel(level)
    peer = TimmFeatures(PEERS[network])
    peer.fill(classifier)
    theirs = copy.deepcopy(ours)
    theirs.backbone = peer
    _check_agreement(ours.backbone, peer)
    return {"timm": theirs, "ours": ours}


def _check_installed() -> None:
    from importlib.util import find_spec

    for module, command in (("timm", "pip install timm"), ("mmdet", "make setup-mmdet")):
        if find_spec(module) is None:
            raise UserError(f"{module} is not installed", fix=command)


def _check_agreement(ours: nn.Module, theirs: nn.Module) -> None:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pairs = list(zip(ours.eval()(image), theirs.eval()(image), strict=True))
    for level, (own, other) in enumerate(pairs):
        if own.shape != other.shape or float((own - other).abs().max()) > AGREEMENT * float(other.abs().max()):
            raise UserError(f"map {level} of timm's network is another than ours", fix="compare timm's version")


def _samples(*, with_objects: bool) -> list[Any]:
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmengine.structures import InstanceData

    samples = []
    for number in range(BATCH):
        sizes = {"img_shape": (SIZE, SIZE), "ori_shape": (SIZE, SIZE), "scale_factor": (1.0, 1.0)}
        sample = DetDataSample(metainfo={"img_id": number, **sizes})
        if with_objects:
            boxes = torch.tensor([[20.0, 30.0, 120.0, 160.0], [60.0, 60.0, 240.0, 200.0]])
            sample.gt_instances = InstanceData(bboxes=HorizontalBoxes(boxes), labels=torch.tensor([1, 2]))
            nothing = InstanceData(bboxes=HorizontalBoxes(torch.zeros(0, 4)), labels=torch.zeros(0, dtype=torch.int64))
            sample.ignored_instances = nothing
        samples.append(sample)
    return samples


def _inputs(*, with_objects: bool) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8, generator=generator) for _ in range(BATCH)]
    return {"inputs": pictures, "data_samples": _samples(with_objects=with_objects)}


def _training(detector: Any) -> Callable[[], object]:
    from mmengine.optim import OptimWrapper

    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-6, momentum=0.9)
    wrapper = OptimWrapper(optimizer)

    def step() -> object:
        detector.train()
        return detector.train_step(_inputs(with_objects=True), wrapper)

    return step


def _prediction(detector: Any) -> Callable[[], object]:
    def predict() -> object:
        detector.eval()
        with torch.no_grad():
            return detector.test_step(_inputs(with_objects=False))

    return predict
