"""Batches of bytes -> what the network sees, with random crops and flips that a resume repeats to the bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rexdet.transfer.protocols import Augmentation
from rexdet.weights.pixels import Preprocessing

# Separates these numbers from the others that are drawn from the same seed (rexdet.runs.state).
_AUGMENTATION = 17


class Normaliser:
    """Bytes to the network's input: (B, 3, H, W) uint8 RGB -> float32, (x / 255 - mean) / std, in the pixels' order."""

    def __init__(self, pixels: Preprocessing) -> None:
        self.scale = (1 / (255 * torch.tensor(pixels.std))).view(3, 1, 1)
        self.offset = (-torch.tensor(pixels.mean) / torch.tensor(pixels.std)).view(3, 1, 1)
        self.is_bgr = pixels.order == "BGR"

    def __call__(self, images: Tensor) -> Tensor:
        scale, offset = self.scale.to(images.device), self.offset.to(images.device)
        values = images.float().mul_(scale).add_(offset)
        return values.flip(1) if self.is_bgr else values


class Augmenter:
    """Random crops and flips of a batch. Each image's are a function of seed, epoch and index alone.

    length: images of the training split. The border of a crop is 0 after the mean is subtracted: the mean colour.
    """

    def __init__(self, augmentation: Augmentation, *, seed: int, length: int) -> None:
        self.pad, self.flip = augmentation.pad, augmentation.flip
        self.seed, self.length = seed, length
        self._words: dict[int, np.ndarray] = {}

    def __call__(self, images: Tensor, samples: Sequence[tuple[int, int]]) -> Tensor:
        """images: (B, 3, H, W) float, normalised. samples: (epoch, index) of each. Returns images of the same shape."""
        if not self.pad and not self.flip:
            return images
        words = np.array([self._of_epoch(epoch)[index] for epoch, index in samples], dtype=np.uint64)
        is_flipped = torch.from_numpy((words >> np.uint64(63)).astype(bool)).to(images.device)
        if not self.pad:
            return torch.where(is_flipped[:, None, None, None], images.flip(3), images)
        _, channels, height, width = images.shape
        rows = torch.arange(height, device=images.device).expand(len(images), -1)
        columns = torch.arange(width, device=images.device).expand(len(images), -1)
        if self.flip:
            columns = torch.where(is_flipped[:, None], columns.flip(1), columns)
        places = np.uint64(2 * self.pad + 1)
        down, right = words % places, (words >> np.uint64(20)) % places
        rows = rows + torch.from_numpy(down.astype(np.int64)).to(images.device)[:, None]
        columns = columns + torch.from_numpy(right.astype(np.int64)).to(images.device)[:, None]
        images = F.pad(images, [self.pad] * 4)
        each = torch.arange(len(images), device=images.device)[:, None, None, None]
        channel = torch.arange(channels, device=images.device)[None, :, None, None]
        return images[each, channel, rows[:, None, :, None], columns[:, None, None, :]]

    def _of_epoch(self, epoch: int) -> np.ndarray:
        """A random 64-bit word for each image, uint64 (length,); NumPy promises these bits for all its versions."""
        if epoch not in self._words:
            # A batch reaches over the end of one epoch at most, and never goes back.
            self._words = {known: words for known, words in self._words.items() if known == epoch - 1}
            bits = np.random.PCG64(np.random.SeedSequence([self.seed, _AUGMENTATION, epoch]))
            self._words[epoch] = bits.random_raw(self.length)
        return self._words[epoch]
