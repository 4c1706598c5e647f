"""A detection job: what a command line asks for. It knows no engine, and engines know it."""

from __future__ import annotations

from dataclasses import dataclass, field

from rexdet.errors import UserError


@dataclass
class DetectionJob:
    """What `tools/train_det.py` was asked for. Paths are kept as typed; empty strings mean "not given".

    dataset: "embedded" or "" (the config's own data sets, or the files given below).
    train_*, val_*: a COCO-format pair; data_root: a folder in COCO's standard layout.
    limit_train: use the first N training images only (0: all); such runs are kept out of tables.
    seed: None takes the config's seed, or a drawn one that the record tells.
    accumulate: micro-batches per optimiser step; the effective batch is the config's batch times this.
    ema: decay of averaged weights, 0 for none.
    overrides: KEY VALUE ... (detectron2) as typed. cfg_options: KEY=VALUE ... (MMDetection) as typed.
    """

    config: str
    engine: str = "auto"
    backbone: str = ""
    weights: str = ""
    pixels: str = ""
    dataset: str = ""
    data_root: str = ""
    train_annotations: str = ""
    train_images: str = ""
    val_annotations: str = ""
    val_images: str = ""
    output: str = ""
    resume: bool = False
    eval_only: bool = False
    dry_run: bool = False
    limit_train: int = 0
    seed: int | None = None
    amp: str = ""
    accumulate: int = 1
    ema: float = 0.0
    replay: str = ""
    map_classes: str = ""
    num_gpus: int = 0
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = ""
    overrides: list[str] = field(default_factory=list)
    cfg_options: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise UserError where the switches contradict each other."""
        pair = (self.train_annotations, self.train_images, self.val_annotations, self.val_images)
        if self.dataset and (self.data_root or any(pair)):
            raise UserError("--dataset and a data set of files are both given", fix="give one of them")
        if self.data_root and any(pair):
            raise UserError("--data-root and --train-annotations and its like are both given", fix="give one of them")
        if bool(self.train_annotations) != bool(self.train_images):
            raise UserError("--train-annotations and --train-images go together", fix="give both")
        if bool(self.val_annotations) != bool(self.val_images):
            raise UserError("--val-annotations and --val-images go together", fix="give both")
        if self.train_annotations and not self.val_annotations:
            raise UserError("a training set without a validation set", fix="give --val-annotations and --val-images")
        if self.val_annotations and not self.train_annotations and not (self.eval_only or self.replay):
            raise UserError("a validation set without a training set", fix="give --train-annotations, or --eval-only")
        if self.resume and self.eval_only:
            raise UserError("--resume and --eval-only are both given", fix="give one of them")
        if self.limit_train < 0:
            raise UserError(f"--limit-train is {self.limit_train}", fix="give a number of images, at least 1")
        if self.accumulate < 1:
            raise UserError(f"--accumulate is {self.accumulate}", fix="give a number of micro-batches, at least 1")
        if not 0.0 <= self.ema < 1.0:
            raise UserError(f"--ema is {self.ema}", fix="give a decay between 0 and 1, such as 0.999")
