"""What this machine has, what it lacks, and the one command that mends each gap.

Every library that could break is imported in a process of its own: a broken one becomes a line of the report, whatever
way it breaks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rexdet.runs import mmdet_packages
from rexdet.runs.environment import collect_hardware, collect_versions
from rexdet.runs.mmdet_packages import version_of

# detectron2's builders and mmdet's backbone, as a config names them.
DETECTRON2_NAMES = (
    "build_rexdet_backbone",
    "build_rexdet_fpn_backbone",
    "build_retinanet_rexdet_fpn_backbone",
)
MMDET_NAMES = ("RexDetBackbone",)

# Smaller than this, data-loading workers can run out of shared memory: containers often get 64 MiB.
ENOUGH_SHARED_MEMORY = 1 << 30
PROBE_SECONDS = 120

_OFFICIAL = "git+https://github.com/facebookresearch/detectron2.git@a59f05630a8f205756064244bf5beb8661f96180"

# Runs in a fresh Python: imports each module and what belongs to it, and prints what it saw as one line of JSON each.
_PROBE = """
import importlib, importlib.util, json, sys
def short(error):
    return " ".join(f"{type(error).__name__}: {error}".split())
def look(module, names):
    seen = {"error": "", "version": "", "folder": "", "operators": None, "names": {}, "plugin_error": ""}
    try:
        library = importlib.import_module(module)
        seen["version"] = str(getattr(library, "__version__", ""))
        seen["folder"] = str(getattr(library, "__file__", ""))
        if module == "detectron2":
            seen["operators"] = importlib.util.find_spec("detectron2._C") is not None
            import detectron2.config, detectron2.modeling, detectron2.model_zoo
    except BaseException as error:
        seen["error"] = short(error)
        return seen
    if names:
        registry = ()
        try:
            importlib.import_module(f"rexdet.{module}")
            if module == "detectron2":
                from detectron2.modeling import BACKBONE_REGISTRY as registry
            else:
                from mmdet.registry import MODELS as registry
        except BaseException as error:
            seen["plugin_error"] = short(error)
        seen["names"] = {name: name in registry for name in names}
    return seen
for module, names in json.loads(sys.argv[1]):
    print("\\n@" + json.dumps(look(module, names)), flush=True)
"""


@dataclass(frozen=True)
class Library:
    """A library that the report imports: what it is for, whether the main job needs it, how it is installed."""

    module: str
    distributions: tuple[str, ...]
    purpose: str
    needed: bool = False
    names: tuple[str, ...] = ()
    install: str = ""


@dataclass
class Line:
    """One line of the report. state: "ok", "missing" (fine without), "warning", or "broken" (the main job fails)."""

    subject: str
    state: str
    says: str
    mend: str = ""


@dataclass
class Diagnosis:
    """Everything the doctor saw; `healthy` says whether a detector can be trained through detectron2 here."""

    versions: dict[str, str]
    hardware: dict[str, Any]
    lines: list[Line] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """No line says "broken"."""
        return all(line.state != "broken" for line in self.lines)

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {**asdict(self), "healthy": self.healthy}


def examine() -> Diagnosis:
    """Look at the whole machine. Imports torch in this process at most, and never raises for what it finds."""
    libraries = known_libraries()
    probes = probe(libraries)
    torch_works = next(seen for library, seen in zip(libraries, probes, strict=True) if library.module == "torch")
    if not torch_works["error"]:
        # collect_versions and collect_hardware ask the torch that is loaded; this one is known to load.
        __import__("torch")
    diagnosis = Diagnosis(collect_versions(), collect_hardware().model_dump(mode="json"))
    for library, seen in zip(libraries, probes, strict=True):
        diagnosis.lines.extend(describe(library, seen))
    accelerators = [accelerator["name"] for accelerator in diagnosis.hardware["accelerators"]]
    diagnosis.lines.append(accelerator_line(accelerators, shutil.which("nvidia-smi")))
    diagnosis.lines += [shared_memory_line(Path("/dev/shm")), compiler_line(), cache_line(cache_folder())]
    return diagnosis


def known_libraries() -> list[Library]:
    """The libraries that the report tells about, those first that the main job needs."""
    pip = f"{_python()} -m pip install"
    detectron2 = "make setup" if _in_checkout() else f"{pip} --no-build-isolation '{_OFFICIAL}'"
    return [
        Library("torch", ("torch",), "everything", needed=True, install=f"{pip} torch torchvision"),
        Library("torchvision", ("torchvision",), "RoIAlign and NMS", needed=True, install=f"{pip} torchvision"),
        Library("pycocotools", ("pycocotools",), "masks of COCO files", needed=True, install=f"{pip} pycocotools"),
        Library("detectron2", ("detectron2",), "training detectors", True, DETECTRON2_NAMES, detectron2),
        _mmdet_library(),
        Library("timm", ("timm",), "networks named timm:...", install=f"{pip} timm"),
        Library("onnxruntime", ("onnxruntime",), "faster inference", install=f"{pip} onnx onnxruntime onnxscript"),
        Library("openvino", ("openvino",), "fastest inference on CPUs", install=f"{pip} openvino"),
    ]


def probe(libraries: Sequence[Library]) -> list[dict[str, Any]]:
    """What importing each library shows; "error" is empty when it worked, "absent" is true where it is not installed.

    One process imports them all; where one ends that process, a new one goes on with those behind it.
    """
    found: list[dict[str, Any]] = []
    while len(found) < len(libraries):
        shown, ending = _import_in_a_process(libraries[len(found) :])
        found.extend(shown)
        if len(found) < len(libraries):
            found.append({"error": ending})
    for library, seen in zip(libraries, found, strict=True):
        absent = seen["error"] == f"ModuleNotFoundError: No module named '{library.module}'"
        seen["absent"] = absent and not version_of(*library.distributions)
    return found


def _import_in_a_process(libraries: Sequence[Library]) -> tuple[list[dict[str, Any]], str]:
    """What a fresh Python saw before it ended, and how it ended."""
    wanted = json.dumps([(library.module, library.names) for library in libraries])
    # -P keeps the working directory, which may hold anything, out of the search path where Python knows the switch.
    switches = ["-P"] if sys.version_info >= (3, 11) else []
    command = [sys.executable, *switches, "-c", _PROBE, wanted]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_search_path())}
    with tempfile.TemporaryFile("w+") as output:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=PROBE_SECONDS,
                env=environment,
            )
            ending = f"importing it ended Python with status {done.returncode}"
        except subprocess.TimeoutExpired:
            ending = f"importing it took more than {PROBE_SECONDS} s"
        output.seek(0)
        return [json.loads(line[1:]) for line in output if line.startswith("@{")], ending


def describe(library: Library, seen: dict[str, Any]) -> list[Line]:
    """The lines of the report about one library, from what its probe saw."""
    failing = "broken" if library.needed else "missing"
    if seen["absent"]:
        return [Line(library.module, failing, f"not installed ({library.purpose})", library.install)]
    if seen["error"]:
        state = "broken" if library.needed else "warning"
        why = seen["error"] if library.module != "mmdet" else f"{seen['error']} ({library.purpose})"
        return [Line(library.module, state, why, mend(library, seen["error"]))]
    distribution = version_of(*library.distributions)
    if library.module == "mmdet":
        crowded = mmdet_packages.crowded_folders()
        if crowded:
            return [Line(library.module, "warning", f"{crowded} ({library.purpose})", library.install)]
        distribution = mmdet_packages.installed_pair()
    says = distribution or f"{seen['version']} from {Path(seen['folder']).parent}"
    if seen["operators"] is False:
        says += ", without compiled operators: no rotated boxes, deformable convolution, COCOeval_opt"
    lines = [Line(library.module, "ok", says)]
    if library.names:
        held = [name for name, there in seen["names"].items() if there]
        lost = [name for name, there in seen["names"].items() if not there]
        registry = f"{library.module} registry"
        if lost:
            why = seen["plugin_error"] or "the import worked, the names are not there"
            state = "broken" if library.needed else "warning"
            lines.append(Line(registry, state, f"lacks {', '.join(lost)} ({why})", mend(library, why)))
        else:
            lines.append(Line(registry, "ok", f"holds {', '.join(held)}"))
    return lines


def mend(library: Library, error: str) -> str:
    """The command that mends an import error."""
    pip = f"{_python()} -m pip install"
    if "pkg_resources" in error:
        return f"{pip} 'setuptools<82'"
    if "PIL.Image" in error and "LINEAR" in error:
        return f"{pip} 'pillow<10'"
    marker = "No module named '"
    if marker in error:
        lacking = error.split(marker, 1)[1].split("'", 1)[0].split(".")[0]
        if library.module == "mmdet" and lacking in ("mmcv", "mmengine"):
            return library.install
        if lacking not in (library.module, "rexdet"):
            distribution = {"PIL": "pillow", "yaml": "pyyaml", "cv2": "opencv-python-headless", "imgaug": "imaug"}.get(
                lacking, lacking
            )
            return f"{pip} {distribution}"
    if library.module == "mmdet":
        if "mmcv" in error and "_ext" in error:
            return mmdet_packages.without_compiled(_python(), in_checkout=_in_checkout())
        return library.install
    if _in_checkout():
        # Nothing better is known than to build the environment anew: half a minute with the packages cached.
        return "make clean setup"
    return library.install


def _mmdet_library() -> Library:
    """MMDetection, official or of the maintained fork, whichever is installed."""
    purpose = f"training through MMDetection; {mmdet_packages.working_pair()} works"
    install = mmdet_packages.install_command(_python(), in_checkout=_in_checkout())
    return Library("mmdet", mmdet_packages.OWNERS["mmdet"], purpose, names=MMDET_NAMES, install=install)


def accelerator_line(names: Sequence[str], driver: str | None) -> Line:
    """What computes here. driver: the path of nvidia-smi, if there is one."""
    if names:
        return Line("accelerator", "ok", ", ".join(names))
    if driver:
        return Line(
            "accelerator",
            "warning",
            "an NVIDIA driver is installed, but torch cannot use it: runs on the CPU",
            f"{_python()} -c 'import torch; torch.cuda.init()'   (its message says why)",
        )
    return Line("accelerator", "ok", "none: runs on the CPU")


def shared_memory_line(folder: Path) -> Line:
    """How much shared memory data-loading workers have; too little ends a training with "bus error"."""
    if not folder.is_dir():
        return Line("shared memory", "ok", f"no {folder} on this system")
    size = shutil.disk_usage(folder).total
    if size < ENOUGH_SHARED_MEMORY:
        return Line(
            "shared memory",
            "warning",
            f"{folder} has {size / 2**20:.0f} MiB: data-loading workers may die with a bus error",
            "add DATALOADER.NUM_WORKERS 0 to the command, or start the container with --shm-size=2g",
        )
    return Line("shared memory", "ok", f"{folder} has {size / 2**30:.1f} GiB")


def compiler_line() -> Line:
    """Whether a C++ compiler is there, which only torch.compile uses."""
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    found = next((path for path in map(shutil.which, filter(None, names)) if path), None)
    if found:
        return Line("C++ compiler", "ok", f"{found} (torch.compile can be used)")
    command = "apt-get install g++" if shutil.which("apt-get") else "conda install gxx"
    return Line("C++ compiler", "missing", "none: torch.compile is left out, everything else works", command)


def cache_folder() -> Path:
    """Where downloaded weights and prepared annotations are kept: REXDET_CACHE, else rexdet in the user's cache."""
    own = os.environ.get("REXDET_CACHE", "").strip()
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    return Path(own).expanduser() if own else (Path(base) if base else Path.home() / ".cache") / "rexdet"


def cache_line(folder: Path) -> Line:
    """Whether the cache can be written, and how much room its disk has."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        return Line("cache", "warning", f"{folder} cannot be written", "export REXDET_CACHE=/a/folder/of/yours")
    return Line("cache", "ok", f"{folder} ({shutil.disk_usage(existing).free / 2**30:.0f} GiB free)")


def _search_path() -> list[str]:
    """This process's search path for a child: the folder of this rexdet, and what PYTHONPATH named already."""
    return [str(Path(__file__).resolve().parents[1]), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def _in_checkout() -> bool:
    return (Path(__file__).resolve().parents[1] / "Makefile").is_file()


def _python() -> str:
    """This interpreter as a person would type it: relative where it lies below the working directory."""
    path = Path(sys.executable)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
