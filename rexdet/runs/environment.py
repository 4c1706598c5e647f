"""Versions, hardware and memory, as the record keeps them. Asks only what is loaded already: imports no library."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt

from rexdet.runs.parts import Bytes, Part, PeakMemory

PACKAGES = (
    "rexdet", "torch", "torchvision", "numpy", "pillow", "pydantic", "detectron2", "fvcore", "iopath", "omegaconf",
    "pycocotools", "mmengine", "mmcv", "mmcv-lite", "mmdet", "timm", "onnxruntime", "openvino", "scikit-learn",
)  # fmt: skip


class Accelerator(Part):
    """One accelerator."""

    name: str = Field(description="name as the driver gives it")
    memory: Bytes | None = Field(default=None, description="its memory, bytes")


class Hardware(Part):
    """The machine that the main process ran on."""

    platform: str = Field(description="operating system and architecture")
    processor: str | None = Field(default=None, description="processor name")
    usable_cpus: NonNegativeInt | None = Field(default=None, description="logical processors this process may use")
    threads: NonNegativeInt | None = Field(
        default=None, description="threads of one torch operation; null: torch not loaded"
    )
    memory: Bytes | None = Field(default=None, description="main memory of the machine, bytes")
    accelerators: list[Accelerator] = Field(default_factory=list, description="accelerators that this process sees")


def collect_versions() -> dict[str, str]:
    """Version of Python and of every package of `PACKAGES` that is installed; CUDA's where torch is loaded.

    A version of rexdet that runs from a checkout carries the commit, and "modified" where tracked files differ from it.
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            module: Any = sys.modules.get(package.replace("-", "_"))
            if module is not None and hasattr(module, "__version__"):
                versions[package] = str(module.__version__)
    commit = _commit(Path(__file__).resolve().parents[2])
    if commit and "rexdet" in versions:
        versions["rexdet"] = f"{versions['rexdet']} ({commit})"
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        versions["cuda"] = str(torch.version.cuda)
        versions["cudnn"] = str(torch.backends.cudnn.version())
    return versions


def collect_hardware() -> Hardware:
    """The machine as this process sees it."""
    hardware = Hardware(platform=f"{platform.system()} {platform.release()} {platform.machine()}")
    hardware.processor = _processor()
    hardware.usable_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        hardware.memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        hardware.threads = torch.get_num_threads()
        if torch.cuda.is_available():
            found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
            hardware.accelerators = [Accelerator(name=device.name, memory=device.total_memory) for device in found]
    return hardware


def peak_memory() -> PeakMemory:
    """The most memory this process has held so far: resident, and in tensors on its accelerator."""
    peak = PeakMemory()
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak.host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peak.accelerator = torch.cuda.max_memory_allocated()
    return peak


def _processor() -> str | None:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _commit(folder: Path) -> str | None:
    """The commit of the checkout at `folder`; None where it is none, or where git is not there to say."""
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=, modified", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else None
