"""The one reader of the published numbers: checked files in, cells out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml
from pydantic import TypeAdapter

from rexdet.errors import UserError
from rexdet.fast_yaml import LOADER
from rexdet.published.protocols import AnyProtocol, Protocol
from rexdet.published.schema import Cell, Network, Source, Table, Value

TABLE_FILES = ("imagenet", "cifar", "detection", "transfer", "complexity")
# Which number speaks for a network, best first: (task, data set, metric).
SPEAKING = tuple(
    (task, dataset, metric)
    for task, dataset in (("imagenet", "imagenet-1k"), ("cifar", "cifar10"))
    for metric in ("top1", "top1_error")
)


@lru_cache(maxsize=1)
def sources() -> Mapping[str, Source]:
    """Every source by its id."""
    return _entries("sources", Source)


@lru_cache(maxsize=1)
def networks() -> Mapping[str, Network]:
    """Every network that numbers are published of, by its id."""
    return _entries("networks", Network)


@lru_cache(maxsize=1)
def protocols() -> Mapping[str, Protocol]:
    """Every protocol by its id."""
    return _entries("protocols", AnyProtocol)


@lru_cache(maxsize=1)
def tables() -> tuple[Table, ...]:
    """Every table, in the order of the files. Raises ValueError for a file that is not as schema.py says."""
    found = tuple(_strict(Table, table) for file in TABLE_FILES for table in _read(file))
    _check(found)
    return found


def protocol(identifier: str) -> Protocol:
    """What a protocol id stands for. Raises UserError for an id that there is not."""
    if identifier not in protocols():
        raise UserError(f"no published protocol {identifier!r}", fix=f"there are {', '.join(protocols())}")
    return protocols()[identifier]


def network_of(name: str) -> tuple[str, str] | None:
    """(network id, tag) of a zoo name, with or without a tag; None where nothing is published of it.

    "rexnet_1.0@nav_in1k", "timm:rexnet_100" and "torchvision:resnet50" are found, as is a network's id itself.
    """
    base, _, tag = name.partition("@")
    for network in networks().values():
        if base == network.id or base in network.names:
            return network.id, tag
    return None


def cells(
    network: str | None = None,
    *,
    task: str | None = None,
    metric: str | None = None,
    dataset: str | None = None,
    detector: str | None = None,
    protocol: str | None = None,
    source: str | None = None,
    table: str | None = None,
) -> tuple[Cell, ...]:
    """The published numbers that fit everything asked for, in the order of the files.

    network: a zoo name; one with a tag gives the numbers of that checkpoint alone. The others: ids and names as the
    files have them. An unknown network has no numbers, which is no error.
    """
    wanted_network, wanted_tag = None, ""
    if network is not None:
        if (found := network_of(network)) is None:
            return ()
        wanted_network, wanted_tag = found
    wanted = {"task": task, "metric": metric, "dataset": dataset, "detector": detector, "table": table}
    return tuple(
        cell
        for cell in _all_cells()
        if (wanted_network is None or cell.network == wanted_network)
        and wanted_tag in ("", cell.tag)
        and (protocol is None or (cell.protocol is not None and cell.protocol.id == protocol))
        and (source is None or cell.source.id == source)
        and all(value is None or getattr(cell, key) == value for key, value in wanted.items())
    )


def accuracies(network: str, dataset: str, metric: str) -> tuple[Cell, ...]:
    """What is printed of a classifier on a data set: transferred to it, or trained on CIFAR from scratch.

    Where an error is printed, the cell has what is left of 100 and says so.
    """
    found = list(cells(network, task="transfer", dataset=dataset, metric=metric))
    found += cells(network, task="cifar", dataset=dataset, metric=metric)
    for cell in cells(network, task="cifar", dataset=dataset, metric=f"{metric}_error"):
        note = f"{cell.note} Printed as an error of {cell.value:g}.".strip()
        found.append(replace(cell, metric=metric, value=round(100 - cell.value, 4), note=note))
    return tuple(found)


def accuracy(name: str) -> Cell | None:
    """The number that speaks for a network or a checkpoint: top-1 of ImageNet, or its error where only that is printed;
    of CIFAR-10 where that is all there is.

    A paper's own number before a model zoo's, one that was read in its source before others; None: none is published.
    """
    for task, dataset, metric in SPEAKING:
        found = cells(name, task=task, dataset=dataset, metric=metric)
        if found:
            return min(found, key=lambda cell: cell.verified != "verified")
    return None


@lru_cache(maxsize=1)
def _all_cells() -> tuple[Cell, ...]:
    return tuple(
        _cell(table, row, dataset, metric, value)
        for table in tables()
        for row, dataset, metric, value in table.numbers()
    )


def _cell(table: Table, row: Mapping[str, Any], dataset: str, metric: str, value: Value) -> Cell:
    protocol_id = row.get("protocol", table.protocol)
    notes = (table.note, row.get("note", ""), value.note)
    return Cell(
        network=row["network"],
        title=networks()[row["network"]].title,
        tag=row.get("tag", ""),
        task=table.task,
        dataset=dataset,
        detector=row.get("detector", table.detector or ""),
        metric=metric,
        value=value.value,
        size=row.get("size"),
        table=table.id,
        source=sources()[table.source],
        place=value.place or row.get("place") or table.place,
        verified=value.verified or row.get("verified") or table.verified,
        protocol=protocols()[protocol_id] if protocol_id else None,
        note=" ".join(note for note in notes if note),
    )


def _check(found: tuple[Table, ...]) -> None:
    """Every name that a file uses must be there. Raises ValueError with the first that is not."""
    seen: set[str] = set()
    for table in found:
        if table.id in seen:
            raise ValueError(f"two tables are called {table.id}")
        seen.add(table.id)
        for kind, known, names in _references(table):
            missing = [name for name in names if name not in known]
            if missing:
                raise ValueError(f"{table.id}: no {kind} {missing[0]!r}")
    for described in protocols().values():
        if described.source not in sources():
            raise ValueError(f"protocol {described.id}: no source {described.source!r}")


def _references(table: Table) -> Iterator[tuple[str, Mapping[str, Any], list[str]]]:
    yield "source", sources(), [table.source]
    yield "network", networks(), [row["network"] for row in table.rows]
    used = [row.get("protocol", table.protocol) for row in table.rows]
    yield "protocol", protocols(), [identifier for identifier in used if identifier]


def _entries(file: str, kind: Any) -> Mapping[str, Any]:
    return {identifier: _strict(kind, {"id": identifier, **values}) for identifier, values in _read(file).items()}


def _strict(kind: Any, values: Any) -> Any:
    # In JSON's terms, where a list stands for a tuple: YAML has no tuples.
    return TypeAdapter(kind).validate_python(_with_tuples(values))


def _with_tuples(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _with_tuples(value) for key, value in values.items()}
    if isinstance(values, list):
        return tuple(_with_tuples(value) for value in values)
    return values


def _read(file: str) -> Any:
    text = resources.files("rexdet.published").joinpath(f"{file}.yaml").read_text(encoding="utf-8")
    return yaml.load(text, LOADER)
