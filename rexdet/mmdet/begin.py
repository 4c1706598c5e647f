"""What comes before MMDetection is used by a command."""

from __future__ import annotations

import warnings

from mmdet.utils import register_all_modules


def begin() -> None:
    """Fill MMDetection's registries, and pass over what its packages say to their own authors."""
    # torch.meshgrid is called as older versions of torch wanted it; the result is the same.
    warnings.filterwarnings("ignore", message="torch.meshgrid")
    # mmengine looks installed packages up with setuptools' pkg_resources.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    register_all_modules(init_default_scope=True)
