"""What the scripts that write expected values share; written without a look at the crate's own code."""

import torch.nn.functional as F


def same(x, kernel, stride):
    """Zeros around `x`, so that ⌈size / stride⌉ positions fit: TensorFlow's padding "same"."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)
