"""How parameters are drawn. Every function takes the generator first: nothing is random unseen."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import wrong_size
from .functions import generator as generator


def uniform(rng: Any, shape: tuple[int, ...], limit: float, dtype: Any = np.float64) -> np.ndarray:
    """Uniform in (-limit, limit).

        tg.init.uniform(0, (2, 3), 0.1).shape          # (2, 3)

    rng    an int seed or a numpy Generator, as everywhere in here
    shape  any shape
    dtype  that of the result, as everywhere in here
    Raises RngError without rng, NumPy's ValueError for a negative limit.
    """
    return generator(rng).uniform(-limit, limit, shape).astype(dtype)


def normal(
    rng: Any, shape: tuple[int, ...], scale: float = 1.0, dtype: Any = np.float64
) -> np.ndarray:
    """Normally distributed around 0; `scale` is the standard deviation.

        tg.init.normal(0, (2, 3)).shape                # (2, 3)

    Any shape; rng and dtype as for `uniform`. Raises RngError without rng.
    """
    return (scale * generator(rng).standard_normal(shape)).astype(dtype)


def glorot(rng: Any, shape: tuple[int, int], gates: int = 1, dtype: Any = np.float64) -> np.ndarray:
    """Uniform with variance 2 / (inputs + outputs): signals keep their size (Glorot 2010).

        tg.init.glorot(0, (3, 4)).shape                # (3, 4)
        tg.init.glorot(0, (3, 4), gates=3).shape       # (3, 12)

    Several gates stand side by side, each drawn as a matrix of this shape; rng and dtype as for
    `uniform`. Raises RngError without rng.
    """
    if np.shape(shape) != (2,):
        raise wrong_size("glorot(rng, shape)", "shape, a pair (inputs, outputs)", shape)
    inputs, outputs = shape
    limit = float(np.sqrt(6 / max(1, inputs + outputs)))
    return uniform(rng, (inputs, gates * outputs), limit, dtype)


def orthogonal(rng: Any, size: int, gates: int = 1, dtype: Any = np.float64) -> np.ndarray:
    """An orthogonal matrix (size, size) for each gate, side by side: (size, gates * size).

        V = tg.init.orthogonal(0, 4)
        np.allclose(V @ V.T, np.eye(4))      # True

    Such a recurrent matrix neither shrinks nor stretches the state (Saxe 2013). Each gate has its
    own: one joint orthogonal matrix of that shape would shrink each of them. rng and dtype as for
    `uniform`. Raises RngError without rng.
    """
    if np.shape(size) != ():
        raise wrong_size("orthogonal(rng, size)", "size, one int: the matrix is square", size)
    rng = generator(rng)
    blocks = []
    for _ in range(gates):
        q, r = np.linalg.qr(rng.standard_normal((size, size)))
        blocks.append(q * np.where(np.diag(r) < 0, -1, 1))  # makes the distribution uniform
    return np.concatenate(blocks, axis=1).astype(dtype)
