"""Arrays from whatever a caller has at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_array(values: Any) -> NDArray[Any]:
    """A tensor (of any device and float type), array or list as a NumPy array."""
    if hasattr(values, "detach"):  # a tensor; this room does not import torch to ask for its class
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # NumPy has no such type
            values = values.float()
        return values.numpy()
    return np.asarray(values)
