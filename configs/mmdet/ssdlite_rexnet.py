# SSDLite at 320 x 320 over ReXNet-1.0, as the ReXNet paper counts it (arXiv 2007.00992v3, Table 6): the expansion of
# the first stride-32 block and the last convolution, 3 anchors on the first map. MMDetection's SSDLite recipe.
_base_ = [
    "mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py",
    "./_base_/rexdet.py",
]

model = dict(
    data_preprocessor=dict(mean=None, std=None, bgr_to_rgb=None),
    backbone=dict(
        _delete_=True,
        type="RexDetBackbone",
        name="rexnet_1.0@nav_in1k",
        out_features=("expand5", "penultimate"),
        norm_cfg=dict(type="BN"),
        norm_eval=False,
    ),
    neck=dict(in_channels=None, out_channels=(None, None, 512, 256, 256, 128)),
    bbox_head=dict(
        type="RexDetSSDHead",
        in_channels=(None, None, 512, 256, 256, 128),
        anchor_generator=dict(type="RexDetSSDAnchorGenerator"),
    ),
)
