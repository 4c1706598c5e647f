"""FCOS with a feature pyramid over ReXNet-1.0, COCO, 1x: detectron2's own FCOS config with another network.

Network:   ReXNet-1.0 (arXiv 2007.00992) from its published ImageNet weights.
Protocol:  detectron2's COCO-Detection/fcos_R_50_FPN_1x.py: 16 images a step, 90,000 steps, SGD, learning rate 0.01.
           `--backbone rexnet_1.0` is this run from random weights.
"""

from detectron2 import model_zoo

from rexdet.detectron2 import use_backbone

_cfg = model_zoo.get_config("COCO-Detection/fcos_R_50_FPN_1x.py")
use_backbone(_cfg, "rexnet_1.0@nav_in1k")

model = _cfg.model
dataloader = _cfg.dataloader
optimizer = _cfg.optimizer
lr_multiplier = _cfg.lr_multiplier
train = _cfg.train
