"""The safe YAML loader, in C where PyYAML was built with libyaml: ten times as fast. It makes plain values alone."""

from __future__ import annotations

from typing import Any

import yaml

LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
