# What configs/quickstart.yaml is for detectron2: RetinaNet over a narrow ReXNet on the embedded data set, on a CPU, in
# minutes. The same data (generated images of 128 x 128, five classes), network, anchors and schedule, as far as
# MMDetection has them:
#   python tools/train_det.py --config configs/mmdet/quickstart.py --dataset embedded
_base_ = [
    "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
    "./_base_/rexdet.py",
]

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[60.0, 60.0, 60.0], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type="RexDetBackbone",
        name="rexnet_0.4",
        out_indices=(1, 2, 3),
        norm_cfg=dict(type="BN"),
        norm_eval=False,
    ),
    neck=dict(in_channels=None, out_channels=64, start_level=0, num_outs=3, add_extra_convs=False),
    bbox_head=dict(
        num_classes=5,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        norm_cfg=dict(type="GN", num_groups=32),
        # Square anchors in steps of 1.5 cover objects of 13 to 128 px.
        anchor_generator=dict(
            _delete_=True,
            type="AnchorGenerator",
            strides=[8, 16, 32],
            base_sizes=[18, 40, 85],
            scales=[1.0, 1.5],
            ratios=[1.0],
            center_offset=0.5,
        ),
        loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=0.1, loss_weight=1.0),
    ),
    test_cfg=dict(nms_pre=300),
)

size = (128, 128)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=size, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=size, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
# Two processors compute; decoding such small images beside them would only slow them down.
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    batch_sampler=None,
    dataset=dict(filter_cfg=dict(filter_empty_gt=False, min_size=0), pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# AdamW, an eighth of the steps warm-up, then half a cosine to 0.
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=600, val_interval=600)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=0.005, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=75),
    dict(type="CosineAnnealingLR", eta_min=0.0, T_max=525, by_epoch=False, begin=75, end=600),
]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=600))
log_processor = dict(by_epoch=False)
