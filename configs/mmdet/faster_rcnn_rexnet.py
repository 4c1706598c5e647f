# Faster R-CNN over ReXNet-1.0, 12 epochs of COCO, MMDetection's recipe.
# Another network: --cfg-options model.backbone.name=NAME; what is None follows from it (docs/mmdetection.md).
_base_ = [
    "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "./_base_/rexdet.py",
]

model = dict(
    data_preprocessor=dict(mean=None, std=None, bgr_to_rgb=None),
    backbone=dict(
        _delete_=True,
        type="RexDetBackbone",
        name="rexnet_1.0@nav_in1k",
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
    ),
    neck=dict(in_channels=None),
)
