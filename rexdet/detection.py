"""Which engine runs a detection job: told by its config, started in as many processes as were asked for."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from rexdet.errors import UserError
from rexdet.job import DetectionJob

ENGINES = ("detectron2", "mmdet")
# Variables that torchrun sets for each process it starts.
_TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR")


def run_detection(job: DetectionJob) -> int:
    """Run a job with the engine that its config is written for; returns the exit status. Raises UserError."""
    job.check()
    job.config = find_config(job.config)
    engine = choose_engine(job.config, job.engine)
    check_overrides(job, engine)
    if wants_launcher(job):
        return launch(job)
    return int(_room_of(engine, "run").run(job))


def predict_with_engine(job: DetectionJob, source: str, score_threshold: float) -> int:
    """Detect on pictures with the engine that the job's config is written for; returns the exit status.

    source: a picture or a folder of them. score_threshold: 0 to 1. Raises UserError.
    """
    engine = choose_engine(job.config, job.engine)
    check_overrides(job, engine)
    # Its own import registers what a config may name.
    _room_of(engine, "")
    return int(_room_of(engine, "predict_files").predict_files(job, source, score_threshold))


def check_overrides(job: DetectionJob, engine: str) -> None:
    """Raise UserError where config keys are overridden in the other engine's way, with this one's."""
    if engine == "mmdet" and job.overrides:
        raise UserError(
            f"{' '.join(job.overrides[:2])}: overrides without a switch are detectron2's",
            fix="for an MMDetection config write --cfg-options KEY=VALUE ...",
        )
    if engine == "detectron2" and job.cfg_options:
        raise UserError(
            f"--cfg-options {job.cfg_options[0]}: this is MMDetection's way",
            fix="for a detectron2 config write KEY VALUE ... at the end of the command, such as SOLVER.MAX_ITER 100",
        )


def _room_of(engine: str, module: str) -> ModuleType:
    """A module of an engine's room, "" for the room. Raises UserError where the engine is not installed."""
    try:
        return importlib.import_module(f"rexdet.{engine}.{module}".rstrip("."))
    except ModuleNotFoundError as error:
        if error.name in ("detectron2", "mmdet", "mmengine", "mmcv"):
            setup = "make setup" if engine == "detectron2" else "make setup-mmdet"
            raise UserError(f"{error.name} is not installed", fix=setup) from None
        raise


def find_config(config: str) -> str:
    """A path for what was typed: a file, or the name of a shipped config ("retinanet_rexnet", with or without .yaml).

    Raises UserError with the near names where there is neither.
    """
    if Path(config).is_file():
        return config
    if Path(config).is_dir():
        raise UserError("is a folder, not a config file", where=config)
    path = Path(config)
    from rexdet.configs import get_config, list_configs

    # The README's commands work from any folder: configs travel with the package.
    name = path.relative_to("configs") if path.parts[0] == "configs" else path
    if len(path.parts) == 1 or name.with_suffix("").as_posix() in list_configs():
        return get_config(name.as_posix())
    raise UserError("no such config file", where=config, fix="give a file, or the name of a shipped config")


def choose_engine(config: str, engine: str = "auto") -> str:
    """The engine that a config file is written for: told by its ending and, for Python, by parsing, not running it.

    Raises UserError where it cannot be told, and where `engine` contradicts the file.
    """
    if engine not in ("auto", *ENGINES):
        raise UserError(f"engine {engine!r} is not one of auto, {', '.join(ENGINES)}")
    suffix = Path(config).suffix.lower()
    if suffix in (".yaml", ".yml"):
        found = "detectron2"
    elif suffix == ".py":
        found = _python_dialect(config) if engine == "auto" else engine
    else:
        raise UserError(f"a config ends in .yaml or .py, not {suffix or 'nothing'!r}", where=config)
    if engine not in ("auto", found):
        raise UserError(f"a {found} config, but --engine says {engine}", where=config)
    return found


def _python_dialect(config: str) -> str:
    """ "detectron2" for a LazyConfig, "mmdet" for an mmengine config."""
    try:
        tree = ast.parse(Path(config).read_text(encoding="utf-8"), filename=config)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"is not readable as Python: {error}", where=config) from None
    lazy = mmengine = False
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "detectron2":
            lazy = True
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("rexdet.detectron2", "omegaconf")):
            lazy = True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("L", "LazyCall"):
            lazy = True
        if isinstance(node, ast.Assign):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if names & {"_base_", "custom_imports", "train_cfg", "default_scope", "optim_wrapper"}:
                mmengine = True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "read_base":
            mmengine = True
    if lazy == mmengine:
        what = (
            "could be a detectron2 or an mmengine config" if lazy else "is neither a detectron2 nor an mmengine config"
        )
        raise UserError(what, where=config, fix="say which with --engine detectron2 or --engine mmdet")
    return "detectron2" if lazy else "mmdet"


def inside_torchrun() -> bool:
    """Whether this process was started by torchrun (or another launcher that sets its variables)."""
    return all(name in os.environ for name in _TORCHRUN_VARIABLES)


def wants_launcher(job: DetectionJob) -> bool:
    """Whether processes must be started from here. Raises UserError where that contradicts the surroundings."""
    asked = job.num_gpus > 0 or job.num_machines > 1 or bool(job.dist_url)
    if asked and inside_torchrun():
        raise UserError(
            "--num-gpus, --num-machines, --machine-rank and --dist-url are given inside torchrun",
            fix="leave them out: torchrun has started the processes already",
        )
    if not asked:
        return False
    import torch

    devices = torch.cuda.device_count()
    per_machine = job.num_gpus or 1
    if per_machine > devices and not (per_machine == 1 and job.num_machines == 1):
        raise UserError(
            f"--num-gpus is {per_machine}, but this machine has {devices} CUDA devices",
            fix=f"on the CPU start processes with: torchrun --nproc_per_node {per_machine} tools/train_det.py ...",
        )
    return per_machine > 1 or job.num_machines > 1


def launch(job: DetectionJob) -> int:
    """Start torchrun's launcher with this same command, less the launcher's own switches; returns its exit status."""
    import subprocess

    switches = [
        f"--nproc_per_node={job.num_gpus or 1}",
        f"--nnodes={job.num_machines}",
        f"--node_rank={job.machine_rank}",
    ]
    if job.num_machines == 1 and not job.dist_url:
        switches.append("--standalone")
    else:
        address = job.dist_url.removeprefix("tcp://")
        host, _, port = address.partition(":")
        if not host or not port.isdigit():
            raise UserError(f"--dist-url is {job.dist_url!r}", fix="write tcp://HOST:PORT of machine 0")
        switches += [f"--master_addr={host}", f"--master_port={port}"]
    own = without_launcher_switches(job.command)
    command = [sys.executable, "-m", "torch.distributed.run", *switches, "-m", "rexdet.cli", "train_det", *own]
    return subprocess.run(command, check=False).returncode


def without_launcher_switches(arguments: list[str]) -> list[str]:
    """The command line less --num-gpus, --num-machines, --machine-rank, --dist-url and their values."""
    names = ("--num-gpus", "--num-machines", "--machine-rank", "--dist-url")
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in names:
            skip = True
        elif not argument.startswith(tuple(f"{name}=" for name in names)):
            kept.append(argument)
    return kept
