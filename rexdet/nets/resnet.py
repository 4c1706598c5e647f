"""ResNet and ResNeXt, and the same network with widths of its own in every layer (LW-DNA).

One residual network covers ResNet (He et al., arXiv 1512.03385), ResNeXt (Xie et al., arXiv 1611.05431: the middle
convolution of a bottleneck in groups, their number is the cardinality), the small forms for 32 x 32 images of both
papers, and the layer-wise widths that LW-DNA's search finds (Li et al., arXiv 2006.16242).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from rexdet.nets.features import PYRAMID, Feature, Step, run_steps
from rexdet.nets.layers import ConvolutionUnit, DropPath, MaxPool2d, check_rate, initialise, make_activation
from rexdet.nets.resnet_plan import (
    BOTTLENECK_STEM_CHANNELS,
    STRIDE_PLACES,
    BlockPlan,
    by_stage,
    check_choices,
    check_numbers,
    check_widths,
    plan_blocks,
    plan_shortcuts,
    rule_channels,
    rule_widths,
)
from rexdet.nets.widths import take_widths

__all__ = ["STRIDE_PLACES", "BlockPlan", "ResNet", "ResidualBlock", "rule_channels", "stride_place"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3 in groups, 1x1 (bottleneck); then the sum with the shortcut, then activation.

    (B, C_in, H, W) -> (B, C_out, ceil(H/stride), ceil(W/stride)). Each convolution has a norm; the last one has no
    activation of its own, the sum has. Sources: arXiv 1512.03385, Fig. 5; arXiv 1611.05431, Fig. 3 (c).
    """

    def __init__(
        self,
        plan: BlockPlan,
        *,
        stride: int,
        dilation: int,
        cardinality: int,
        stride_in: str,
        activation: str,
        norm: str,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.shortcut = plan.shortcut
        self.stride = stride
        self.out_channels = plan.out_channels
        if len(plan.widths) == 3:
            first, middle, last = plan.widths
            at_first = stride_in == "1x1"
            self.unit1 = ConvolutionUnit(
                plan.in_channels, first, stride=stride if at_first else 1, norm=norm, activation=activation
            )
            self.unit2 = ConvolutionUnit(
                first,
                middle,
                3,
                stride=1 if at_first else stride,
                dilation=dilation,
                groups=cardinality,
                norm=norm,
                activation=activation,
            )
            self.unit3: ConvolutionUnit | None = ConvolutionUnit(middle, last, norm=norm)
        else:
            first, last = plan.widths
            self.unit1 = ConvolutionUnit(
                plan.in_channels, first, 3, stride=stride, dilation=dilation, norm=norm, activation=activation
            )
            self.unit2 = ConvolutionUnit(first, last, 3, dilation=dilation, norm=norm)
            self.unit3 = None
        self.projection = (
            ConvolutionUnit(plan.in_channels, last, stride=stride, norm=norm) if plan.shortcut == "projection" else None
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else None
        self.activation = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        out = self.unit2(self.unit1(x))
        if self.unit3 is not None:
            out = self.unit3(out)
        if self.drop_path is not None:
            out = self.drop_path(out)
        return self.activation(out + self._skip(x))

    def _skip(self, x: Tensor) -> Tensor:
        if self.projection is not None:
            return self.projection(x)
        if self.shortcut == "padding":
            missing = self.out_channels - x.shape[1]
            return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, missing // 2, missing - missing // 2))
        return x


class ResNet(nn.Module):
    """ResNet, ResNeXt and their layer-wise forms: (B, in_channels, H, W) float -> (B, num_classes) logits.

    depths: blocks of each stage; four stages with the ImageNet stem, three with the CIFAR one.
    block: "bottleneck" (stage s writes 256 * 2^s channels, its inner convolutions have
        cardinality * base_width * 2^s) or "basic" (every convolution of stage s has base_width * 2^s).
    cardinality, base_width: C and d of "C x d" (arXiv 1611.05431, Sec. 3.2); a basic block has no groups.
    stem: "imagenet" (7x7 with stride 2, then 3x3 max-pooling with stride 2) or "cifar" (3x3, no stride).
    width: multiplies every width: int(width * channels); in a grouped convolution the width inside a group.
    channels: layer by layer widths, keyed as in `.channels`; what it leaves out follows the rule above.
    stem_norm: whether norm and activation follow the stem's convolution; without them it has a bias. None: they do, but
        for the CIFAR form of the bottleneck (34,426,634 parameters for ResNeXt-29, 8x64d; with them 64 more).
    shortcut: where the shape changes, "projection" (1x1 convolution) or "padding" (zeros, no parameters).
    stride_in: which convolution of a bottleneck has the stride: "3x3" (torchvision, the ResNeXt paper) or "1x1" (the
        ResNet paper, Caffe2's R-50).
    drop_path: rate of the last block; it grows linearly from 0 at the first. dropout: before the classifier.
    output_stride: 32, 16 or 8, ImageNet form only: the last strides become dilations, the weights stay the same.
    norm: "BN", "FrozenBN", "SyncBN" or "GN". activation: a name of nets.layers.ACTIVATIONS.

    `features` names the feature maps: res2 ... res5 at strides 4 ... 32; in the CIFAR form res2, res3, res4 at strides
    1, 2, 4. `channels` gives the output channels of every convolution by the path of its unit.

    Raises ValueError for a value out of range and for widths that do not fit together.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6, 3),
        *,
        block: str = "bottleneck",
        cardinality: int = 1,
        base_width: int = 64,
        stem: str = "imagenet",
        stem_channels: int | None = None,
        stem_norm: bool | None = None,
        width: float = 1.0,
        channels: Mapping[str, int] | None = None,
        shortcut: str = "projection",
        stride_in: str = "3x3",
        num_classes: int = 1000,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        output_stride: int = 32,
        norm: str = "BN",
        activation: str = "relu",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        check_choices(block=block, stem=stem, shortcut=shortcut, stride_in=stride_in)
        check_numbers(depths, block, stem, cardinality, base_width, width, output_stride, num_classes)
        check_rate(drop_path)
        for what, count in (("in_channels", in_channels), ("stem_channels", stem_channels)):
            if count is not None and count < 1:
                raise ValueError(f"{what} is {count}; give a positive whole number")
        if stem_channels is None:
            stem_channels = base_width if block == "basic" else BOTTLENECK_STEM_CHANNELS
        rule = rule_widths(depths, block, cardinality, base_width, stem_channels, width)
        shortcuts = plan_shortcuts(depths, rule, block, shortcut)
        self.channels = take_widths(rule, channels)
        plans = plan_blocks(depths, self.channels, shortcuts, block)
        check_widths(plans, cardinality)

        if stem_norm is None:
            stem_norm = stem == "imagenet" or block == "basic"
        self.num_classes = num_classes
        self.stride_in = stride_in
        self.cardinality = cardinality
        is_imagenet = stem == "imagenet"
        self.stem = ConvolutionUnit(
            in_channels,
            self.channels["stem"],
            7 if is_imagenet else 3,
            stride=2 if is_imagenet else 1,
            norm=norm if stem_norm else "",
            activation=activation if stem_norm else "identity",
        )
        self.pool = MaxPool2d(3, stride=2, padding=1) if is_imagenet else None
        self.stages = nn.ModuleList(nn.ModuleList() for _ in depths)
        stem_stride = 4 if is_imagenet else 1
        strides = _build_blocks(
            self.stages,
            plans,
            stem_stride=stem_stride,
            limit=output_stride if is_imagenet else stem_stride * 4,
            drop_path=drop_path,
            cardinality=cardinality,
            stride_in=stride_in,
            activation=activation,
            norm=norm,
        )
        self.head_dropout = nn.Dropout(dropout)
        self.head = nn.Linear(plans[-1].out_channels, num_classes)
        self.steps = _steps(plans, has_pool=is_imagenet)
        self.features = {
            PYRAMID[stage]: Feature(blocks[-1].out_channels, strides[stage])
            for stage, blocks in enumerate(by_stage(plans))
        }
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = run_steps(self, self.steps, x, ())[0]
        return self.head(self.head_dropout(x.mean((2, 3))))

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) -> every feature map that `features` names."""
        return run_steps(self, self.steps, x, self.features)[1]


def stride_place(network: nn.Module) -> str | None:
    """Which convolution of a ResNet's bottlenecks has the stride, "3x3" or "1x1"; None where no bottleneck has one.

    network: a ResNet, a backbone of one, or anything around them.
    """
    for block in network.modules():
        if isinstance(block, ResidualBlock) and block.stride > 1 and block.unit3 is not None:
            return "1x1" if block.unit1.conv.stride[0] > 1 else "3x3"
    return None


def _build_blocks(
    stages: nn.ModuleList,
    plans: Sequence[BlockPlan],
    *,
    stem_stride: int,
    limit: int,
    drop_path: float,
    cardinality: int,
    stride_in: str,
    activation: str,
    norm: str,
) -> list[int]:
    """Append every block to its stage; returns the stride of each stage's output in input pixels."""
    reached, dilation = stem_stride, 1
    strides: list[int] = []
    for index, plan in enumerate(plans):
        is_dilated = plan.stride > 1 and reached * plan.stride > limit
        stride = 1 if is_dilated else plan.stride
        reached *= stride
        stage = int(plan.path.split(".")[1])
        block = ResidualBlock(
            plan,
            stride=stride,
            # The block that loses its stride still reads its neighbours at the old distance; those behind read wider.
            dilation=dilation,
            cardinality=cardinality,
            stride_in=stride_in,
            activation=activation,
            norm=norm,
            drop_path=drop_path * index / max(len(plans) - 1, 1),
        )
        stages[stage].append(block)  # type: ignore[operator]
        if is_dilated:
            dilation *= plan.stride
        strides[stage:] = [reached]
    return strides


def _steps(plans: Sequence[BlockPlan], *, has_pool: bool) -> tuple[Step, ...]:
    steps = [Step("stem", stage=1)]
    if has_pool:
        steps.append(Step("pool", stage=1))
    for stage, blocks in enumerate(by_stage(plans)):
        for block in blocks:
            steps.append(Step(block.path, stage=stage + 2, output=PYRAMID[stage] if block is blocks[-1] else ""))
    return tuple(steps)
