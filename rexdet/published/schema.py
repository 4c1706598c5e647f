"""The form of the published numbers: sources, networks, tables, and the cells that a reader gets out of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rexdet.published.protocols import Protocol

Verified = Literal["verified", "secondary", "inferred"]
Task = Literal["imagenet", "imagenet_5k", "robustness", "cifar", "detection", "transfer", "complexity"]
Detector = Literal["faster_rcnn", "mask_rcnn", "retinanet", "ssdlite"]
Words = Annotated[str, Field(min_length=1)]
Number = int | float


class Metric(NamedTuple):
    """unit: of the printed number. meaning: what it is. higher_is_better: None where neither is."""

    unit: str
    meaning: str
    higher_is_better: bool | None


# Numbers stand as they are printed: accuracies and AP in per cent, "FLOPs" as billions of multiply-accumulates.
METRICS: dict[str, Metric] = {
    "top1": Metric("%", "images whose class is the first guess", True),
    "top5": Metric("%", "images whose class is among the first five guesses", True),
    "top1_error": Metric("%", "100 - top1, as printed", False),
    "top5_error": Metric("%", "100 - top5, as printed", False),
    "mean_per_class": Metric("%", "accuracy of each class, averaged over classes", True),
    "map11": Metric("%", "mean average precision at 11 recalls", True),
    "AP": Metric("%", "box AP, IoU .50 to .95", True),
    "AP50": Metric("%", "box AP at IoU .50", True),
    "AP75": Metric("%", "box AP at IoU .75", True),
    "mask_AP": Metric("%", "mask AP, IoU .50 to .95", True),
    "mask_AP50": Metric("%", "mask AP at IoU .50", True),
    "mask_AP75": Metric("%", "mask AP at IoU .75", True),
    "parameters": Metric("", "learnable numbers, to the digit", None),
    "parameters_millions": Metric("M", "learnable numbers", None),
    "macs_billions": Metric("G", "multiply-accumulates of one image, printed as FLOPs", None),
    "cpu_ms": Metric("ms", "one image on a Xeon E5-2630 v4", None),
    "gpu_ms": Metric("ms", "a batch of 64 images on a GPU", None),
}


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Source(Part):
    """A paper or a repository, and where its numbers were read."""

    id: str
    kind: Literal["paper", "repository", "package", "page"]
    title: Words
    short: Words = Field(description="for narrow columns")
    address: Words = Field(description="URL")
    version: str = Field(description="version of the paper, commit of the repository, version of the package")
    read_in: Words = Field(description="the file, page or picture in which it was read")
    licence: str = Field(default="", description="of the text or code, where one is stated")


class Network(Part):
    """A network that numbers are published of.

    names: the zoo names that build it, ours first; empty: none does.
    """

    id: str
    title: Words
    names: tuple[str, ...] = ()


class Value(Part):
    """A cell that differs from its table in how far it was checked, or in where it stands."""

    value: Number
    verified: Verified | None = None
    place: str | None = None
    note: str = ""


class Table(Part):
    """Numbers of one source under one protocol.

    verified: "verified" (read in the source, or in a picture or full copy of it), "secondary" (in a third party's
    text), "inferred" (computed; the note says how). datasets: where a column is a data set, which metric it holds.
    rows: network, its differences from the table (detector, protocol, tag, size, note), and the columns.
    """

    id: str
    task: Task
    source: str
    place: Words
    verified: Verified
    protocol: str | None = None
    detector: Detector | None = None
    dataset: str = ""
    datasets: dict[str, str] = Field(default_factory=dict)
    note: str = ""
    rows: tuple[dict[str, Any], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_rows(self) -> Table:
        columns = self.datasets or METRICS
        for row in self.rows:
            if "network" not in row:
                raise ValueError(f"a row of {self.id} names no network: {row}")
            unknown = set(row) - set(columns) - _ROW_KEYS
            if unknown:
                raise ValueError(f"{self.id}, {row['network']}: no column {sorted(unknown)[0]!r}")
            if not set(row) & set(columns):
                raise ValueError(f"{self.id}, {row['network']}: no number")
            for column in set(row) & set(columns):
                _value(row[column])
        if bool(self.dataset) == bool(self.datasets):
            raise ValueError(f"{self.id} must name either its data set or its columns' data sets")
        if unknown_metrics := set(self.datasets.values()) - set(METRICS):
            raise ValueError(f"{self.id}: no metric {sorted(unknown_metrics)[0]!r}")
        if (self.task == "detection") != any("detector" in row or self.detector for row in self.rows):
            raise ValueError(f"{self.id}: detection tables, and no others, name a detector")
        return self

    def numbers(self) -> Iterator[tuple[dict[str, Any], str, str, Value]]:
        """(row, data set, metric, value) of every cell, in the order of the file."""
        for row in self.rows:
            for column, raw in row.items():
                if column in self.datasets:
                    yield row, column, self.datasets[column], _value(raw)
                elif not self.datasets and column in METRICS:
                    yield row, self.dataset, column, _value(raw)


_ROW_KEYS = {"network", "detector", "protocol", "tag", "size", "note", "verified", "place"}


def _value(raw: Any) -> Value:
    return Value(**raw) if isinstance(raw, Mapping) else Value(value=raw)


@dataclass(frozen=True)
class Cell:
    """One published number, as printed, and all that must be said beside it.

    network: the id of networks.yaml. title: what the source calls it. tag: the zoo tag of the checkpoint it belongs to,
    or "". size: of test images in pixels, None: as the protocol says. detector: "" for classifiers.
    protocol: None for numbers that no training is behind (counts).
    """

    network: str
    title: str
    tag: str
    task: str
    dataset: str
    detector: str
    metric: str
    value: Number
    size: int | None
    table: str
    source: Source
    place: str
    verified: str
    protocol: Protocol | None
    note: str

    @property
    def unit(self) -> str:
        return METRICS[self.metric].unit

    def cited(self, *, short: bool = False) -> str:
        """Where it stands, in one line; with a mark where it was not read there.

        short: "arXiv 2007.00992v3, Table 5" in the place of the source's whole title.
        """
        mark = "" if self.verified == "verified" else f" ({self.verified})"
        return f"{self.source.short if short else self.source.title}, {self.place}{mark}"

    def as_json(self) -> dict[str, Any]:
        """The cell as plain JSON values; the protocol by its id."""
        plain = {**asdict(self), "unit": self.unit, "cited": self.cited()}
        return {
            **plain,
            "source": self.source.model_dump(mode="json"),
            "protocol": self.protocol.id if self.protocol else None,
        }
