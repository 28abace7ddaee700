"""Published cells, each in about ten lines: read one, run it in tg.RNN, or change it.

    cell = tg.zoo.MGU(3, 4, rng=0)
    tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

Letters as in cells.py: rows x (N, C) and h (N, H); U from the input, V from the state, b. Several
gates stand side by side in one matrix, in the order of `.gates`; i, f, ... in a formula are each
x U + h V + b, with that gate's columns. s is the sigmoid, products are elementwise.

Every constructor takes inputs (C) and hidden (H) first, and rng, an int seed or a numpy Generator,
required, and dtype last. Recurrent matrices start orthogonal (each gate its own), those from the
input as `init.glorot` draws them, biases at 0, unless something else is said. Where a published
cell has variants, the one that is built is named.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import init
from .cells import Cell, RNNCell
from .errors import CellError, ShapeError
from .functions import activation as activation_named
from .functions import layer_norm, relu, sigmoid, softplus
from .module import Parameter
from .vjp import Array


def _bias(hidden: int, starts: list[float], dtype: Any) -> Parameter:
    """b (kH,) for k gates, each with its own start."""
    return Parameter(np.repeat(np.array(starts, dtype), hidden))


class _Gated(Cell):
    """What most cells below share: U (C, kH), V (H, kH), b (kH,) for k gates; the state is h."""

    gates: tuple[str, ...]

    def __init__(self, inputs: int, hidden: int, rng: Any = None, dtype: Any = np.float64) -> None:
        rng, count = init.generator(rng), len(self.gates)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, (hidden,)
        self.U = Parameter(init.glorot(rng, (inputs, hidden), count, dtype))
        self.V = Parameter(init.orthogonal(rng, hidden, count, dtype))
        self.b = _bias(hidden, [0] * count, dtype)

    def _split(self, z: Array) -> Any:
        """The gates' columns."""
        return np.split(z, len(self.gates), axis=-1)


# ----- Kin of the LSTM ---------------------------------------------------------------------------


class PeepholeLSTM(_Gated):
    """An LSTM whose gates see the memory: i and f the old one, o the new one.

        cell = tg.zoo.PeepholeLSTM(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    s(i + p_i c), s(f + p_f c);  c' = s(f + p_f c) c + s(i + p_i c) tanh(g)
    h' = s(o + p_o c') tanh(c')

    forget_bias     what b starts with for gate f
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 4H), V (H, 4H), b (4H,), and p (3H,): p_i, p_f, p_o, starting at 0. State: (h,
    c). Raises RngError without rng, ShapeError for x of another width.
    Source: Gers, Schraudolph and Schmidhuber 2002 (JMLR 3); Greff 2015, arXiv:1503.04069.
    """

    gates = ("i", "f", "g", "o")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        forget_bias: float = 1.0,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(inputs, hidden, rng, dtype)
        self.b = _bias(hidden, [0, forget_bias, 0, 0], dtype)
        self.p = Parameter(np.zeros(3 * hidden, dtype))
        self.state_shape = ((hidden,), (hidden,))

    def step(self, x: Array, state: Any) -> Any:
        """Output h', state (h', c')."""
        h, c = state
        i, f, g, o = self._split(x @ self.U + h @ self.V + self.b)
        p_i, p_f, p_o = np.split(self.p, 3)
        c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
        h = sigmoid(o + p_o * c) * np.tanh(c)
        return h, (h, c)


class CoupledLSTM(_Gated):
    """An LSTM that forgets exactly as much as it writes: f = 1 - i.

        cell = tg.zoo.CoupledLSTM(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    c' = (1 - s(i)) c + s(i) tanh(g);  h' = s(o) tanh(c')

    forget_bias     b starts with -forget_bias for gate i: the memory lasts
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 3H), V (H, 3H), b (3H,). State: (h, c). Raises RngError without rng,
    ShapeError for x of another width. Source: Greff 2015, "CIFG", arXiv:1503.04069.
    """

    gates = ("i", "g", "o")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        forget_bias: float = 1.0,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(inputs, hidden, rng, dtype)
        self.b = _bias(hidden, [-forget_bias, 0, 0], dtype)
        self.state_shape = ((hidden,), (hidden,))

    def step(self, x: Array, state: Any) -> Any:
        """Output h', state (h', c')."""
        h, c = state
        i, g, o = self._split(x @ self.U + h @ self.V + self.b)
        i = sigmoid(i)
        c = (1 - i) * c + i * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return h, (h, c)


class ProjectionLSTM(Cell):
    """An LSTM with a large memory and a small output: h' is projected to R numbers.

        cell = tg.zoo.ProjectionLSTM(3, 8, 2, rng=0)
        tg.RNN(cell)(np.ones((5, 1, 3))).outputs.shape        # (5, 1, 2)

    c' = s(f) c + s(i) tanh(g);  h' = (s(o) tanh(c')) P

    projected       R, the width of h, at most H: the rows of each gate's V start orthonormal
    forget_bias     what b starts with for gate f
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 4H), V (R, 4H), b (4H,), P (H, R). State: (h, c), of widths R and H. Raises
    RngError without rng, ShapeError for R, and for x of another width.
    Source: Sak, Senior and Beaufays 2014, arXiv:1402.1128.
    """

    gates = ("i", "f", "g", "o")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        projected: int,
        forget_bias: float = 1.0,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        if not 1 <= projected <= hidden:
            raise ShapeError(f"projected={projected}: expected 1..{hidden}, the hidden units")
        rng = init.generator(rng)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, ((projected,), (hidden,))
        self.U = Parameter(init.glorot(rng, (inputs, hidden), 4, dtype))
        self.V = Parameter(init.orthogonal(rng, hidden, 4, dtype)[:projected])
        self.b = _bias(hidden, [0, forget_bias, 0, 0], dtype)
        self.P = Parameter(init.glorot(rng, (hidden, projected), dtype=dtype))

    def step(self, x: Array, state: Any) -> Any:
        """Output h', state (h', c')."""
        h, c = state
        i, f, g, o = np.split(x @ self.U + h @ self.V + self.b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = (sigmoid(o) * np.tanh(c)) @ self.P
        return h, (h, c)


class MultiplicativeLSTM(_Gated):
    """An LSTM whose transition depends on the input: m, the product of both, stands in for h.

        cell = tg.zoo.MultiplicativeLSTM(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    m = (x U_m) (h V_m);  i, f, g, o = x U + m V + b, then as in an LSTM

    forget_bias     what b starts with for gate f
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 4H), V (H, 4H), b (4H,), U_m (C, H), V_m (H, H). State: (h, c). Raises
    RngError without rng, ShapeError for x of another width. Source: Krause 2016, arXiv:1609.07959.
    """

    gates = ("i", "f", "g", "o")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        forget_bias: float = 1.0,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        rng = init.generator(rng)
        super().__init__(inputs, hidden, rng, dtype)
        self.b = _bias(hidden, [0, forget_bias, 0, 0], dtype)
        self.U_m = Parameter(init.glorot(rng, (inputs, hidden), dtype=dtype))
        self.V_m = Parameter(init.orthogonal(rng, hidden, dtype=dtype))
        self.state_shape = ((hidden,), (hidden,))

    def step(self, x: Array, state: Any) -> Any:
        """Output h', state (h', c')."""
        h, c = state
        m = (x @ self.U_m) * (h @ self.V_m)
        i, f, g, o = self._split(x @ self.U + m @ self.V + self.b)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return h, (h, c)


class LayerNormLSTM(_Gated):
    """An LSTM with layer normalisation, apart for the input's part, the state's and the memory.

        cell = tg.zoo.LayerNormLSTM(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    i, f, g, o = gain_x LN(x U) + gain_h LN(h V) + b, where LN is over all 4H numbers together
    c' = s(f) c + s(i) tanh(g);  h' = s(o) tanh(gain_c LN(c') + b_c)

    forget_bias     what b starts with for gate f
    eps             added to the variance: at h = 0, where every sequence starts, LN is 0/0 without
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 4H), V (H, 4H), b (4H,), gain_x (4H,), gain_h (4H,), gain_c (H,), b_c (H,);
    gains start at 1. State: (h, c). Raises RngError without rng, ShapeError for x of another width.
    Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450.
    """

    gates = ("i", "f", "g", "o")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        forget_bias: float = 1.0,
        eps: float = 1e-5,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(inputs, hidden, rng, dtype)
        self.b = _bias(hidden, [0, forget_bias, 0, 0], dtype)
        self.gain_x, self.gain_h = (Parameter(np.ones(4 * hidden, dtype)) for _ in range(2))
        self.gain_c = Parameter(np.ones(hidden, dtype))
        self.b_c = Parameter(np.zeros(hidden, dtype))
        self.eps, self.state_shape = eps, ((hidden,), (hidden,))

    def step(self, x: Array, state: Any) -> Any:
        """Output h', state (h', c')."""
        h, c = state
        from_x = layer_norm(x @ self.U, self.gain_x, self.b, eps=self.eps)
        i, f, g, o = self._split(from_x + layer_norm(h @ self.V, self.gain_h, eps=self.eps))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(layer_norm(c, self.gain_c, self.b_c, eps=self.eps))
        return h, (h, c)


class SLSTM(_Gated):
    """An LSTM whose input gate is an exponential, so that it can overrule all it wrote before.

        cell = tg.zoo.SLSTM(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    c' = s(f) c + exp(i) tanh(z);  n' = s(f) n + exp(i), the weights so far;  h' = s(o) c' / n'

    An exponential overflows. So c and n are kept divided by exp(m), which cancels in c / n:
    m' = max(log s(f) + m, i), and m' = i where nothing has been written (n = 0). So no exponent is
    positive, and n' is at least 1.

    forget_bias     what b starts with for gate f
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 4H), V (H, 4H), b (4H,). State: (h, c, n, m). One head, f a sigmoid. Raises
    RngError without rng, ShapeError for x of another width.
    Source: Beck 2024, "xLSTM", arXiv:2405.04517.
    """

    gates = ("i", "f", "z", "o")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        forget_bias: float = 1.0,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(inputs, hidden, rng, dtype)
        self.b = _bias(hidden, [0, forget_bias, 0, 0], dtype)
        self.state_shape = ((hidden,),) * 4

    def step(self, x: Array, state: Any) -> Any:
        """Output h', state (h', c', n', m')."""
        h, c, n, m = state
        i, f, z, o = self._split(x @ self.U + h @ self.V + self.b)
        kept = np.where(n == 0, i, m - softplus(-f))  # log s(f) + m
        m = np.maximum(kept, i)
        keep, write = np.exp(kept - m), np.exp(i - m)
        c, n = keep * c + write * np.tanh(z), keep * n + write
        h = sigmoid(o) * c / n
        return h, (h, c, n, m)


class JANET(_Gated):
    """An LSTM with nothing but its forget gate; h is the memory itself.

        cell = tg.zoo.JANET(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    h' = s(f) h + (1 - s(f - beta)) tanh(g)

    beta            above 0, more is written than forgotten
    forget_bias     what b starts with for gate f
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 2H), V (H, 2H), b (2H,). State: h. Raises RngError without rng, ShapeError for
    x of another width. Source: van der Westhuizen and Lasenby 2018, arXiv:1804.04849.
    """

    gates = ("f", "g")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        beta: float = 1.0,
        forget_bias: float = 1.0,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(inputs, hidden, rng, dtype)
        self.b = _bias(hidden, [forget_bias, 0], dtype)
        self.beta = beta

    def step(self, x: Array, state: Array) -> Any:
        """h'."""
        f, g = self._split(x @ self.U + state @ self.V + self.b)
        return sigmoid(f) * state + (1 - sigmoid(f - self.beta)) * np.tanh(g)


# ----- Kin of the GRU ----------------------------------------------------------------------------


class LayerNormGRU(_Gated):
    """A GRU with layer normalisation, apart for the input's part and the state's.

        cell = tg.zoo.LayerNormGRU(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    r, z = gain_x LN(x U) + gain_h LN(h V) + b, where LN is over the 2H numbers of both gates
    n = tanh(gain_x LN(x U) + b + s(r) (gain_h LN(h V) + b_n)), where LN is over n's H numbers
    h' = (1 - s(z)) n + s(z) h, as in GRUCell (the paper has z the other way round)

    eps         added to the variance: at h = 0, where every sequence starts, LN is 0/0 without
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 3H), V (H, 3H), b (3H,), b_n (H,), gain_x (3H,), gain_h (3H,); gains start at
    1. State: h. Raises RngError without rng, ShapeError for x of another width.
    Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450.
    """

    gates = ("r", "z", "n")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        eps: float = 1e-5,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(inputs, hidden, rng, dtype)
        self.gain_x, self.gain_h = (Parameter(np.ones(3 * hidden, dtype)) for _ in range(2))
        self.b_n, self.eps = Parameter(np.zeros(hidden, dtype)), eps

    def step(self, x: Array, state: Array) -> Any:
        """h' = (1 - z) n + z h."""
        xr, xz, xn = self._split(self._norm(x @ self.U) * self.gain_x + self.b)
        hr, hz, hn = self._split(self._norm(state @ self.V) * self.gain_h)
        n = np.tanh(xn + sigmoid(xr + hr) * (hn + self.b_n))
        z = sigmoid(xz + hz)
        return (1 - z) * n + z * state

    def _norm(self, a: Array) -> Any:
        parts = np.split(a, [2 * self.hidden], axis=-1)
        return np.concatenate([layer_norm(part, eps=self.eps) for part in parts], axis=-1)


class MGU(_Gated):
    """A GRU with one gate, which forgets and updates at once.

        cell = tg.zoo.MGU(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    n = tanh(x U[n] + (s(f) h) V[n] + b[n]);  h' = (1 - s(f)) h + s(f) n

    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 2H), V (H, 2H), b (2H,). State: h. Raises RngError without rng, ShapeError for
    x of another width. Source: Zhou 2016, arXiv:1603.09420.
    """

    gates = ("f", "n")

    def step(self, x: Array, state: Array) -> Any:
        """h'."""
        (xf, xn), (Vf, Vn) = self._split(x @ self.U + self.b), self._split(self.V)
        f = sigmoid(xf + state @ Vf)
        return (1 - f) * state + f * np.tanh(xn + (f * state) @ Vn)


class UGRNN(_Gated):
    """The update-gate RNN: one gate between the old state and the vanilla RNN's new one.

        cell = tg.zoo.UGRNN(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    h' = s(g) h + (1 - s(g)) tanh(c)

    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 2H), V (H, 2H), b (2H,). State: h. Raises RngError without rng, ShapeError for
    x of another width. Source: Collins, Sohl-Dickstein and Sussillo 2016, arXiv:1611.09913.
    """

    gates = ("g", "c")

    def step(self, x: Array, state: Array) -> Any:
        """h'."""
        g, c = self._split(x @ self.U + state @ self.V + self.b)
        g = sigmoid(g)
        return g * state + (1 - g) * np.tanh(c)


class LiGRU(_Gated):
    """The light GRU, made for speech: no reset gate, and relu in place of tanh.

        cell = tg.zoo.LiGRU(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    h' = s(z) h + (1 - s(z)) relu(n)

    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 2H), V (H, 2H), b (2H,). State: h. The paper normalises x U over the batch,
    which would make rows depend on each other; b stands in its place. Raises RngError without rng,
    ShapeError for x of another width. Source: Ravanelli 2018, arXiv:1803.10225.
    """

    gates = ("z", "n")

    def step(self, x: Array, state: Array) -> Any:
        """h'."""
        z, n = self._split(x @ self.U + state @ self.V + self.b)
        z = sigmoid(z)
        return z * state + (1 - z) * relu(n)


class MinGRU(Cell):
    """A GRU whose gates see the input alone: h' is linear in h, so time can be done in parallel.

        cell = tg.zoo.MinGRU(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    z, n = x U + b;  h' = (1 - s(z)) h + s(z) n

    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 2H), b (2H,). State: h. Raises RngError without rng, ShapeError for x of
    another width. Source: Feng 2024, arXiv:2410.01201.
    """

    gates = ("z", "n")

    def __init__(self, inputs: int, hidden: int, rng: Any = None, dtype: Any = np.float64) -> None:
        self.inputs, self.hidden, self.state_shape = inputs, hidden, (hidden,)
        self.U = Parameter(init.glorot(rng, (inputs, hidden), 2, dtype))
        self.b = Parameter(np.zeros(2 * hidden, dtype))

    def step(self, x: Array, state: Array) -> Any:
        """h'."""
        z, n = np.split(x @ self.U + self.b, 2, axis=-1)
        z = sigmoid(z)
        return (1 - z) * state + z * n


class MinLSTM(Cell):
    """An LSTM whose gates see the input alone and add up to 1: linear in h, as MinGRU.

        cell = tg.zoo.MinLSTM(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    f, i, n = x U + b;  h' = (s(f) h + s(i) n) / (s(f) + s(i))

    forget_bias     what b starts with for gate f
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 3H), b (3H,). State: h. Raises RngError without rng, ShapeError for x of
    another width. Source: Feng 2024, arXiv:2410.01201.
    """

    gates = ("f", "i", "n")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        forget_bias: float = 1.0,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        self.inputs, self.hidden, self.state_shape = inputs, hidden, (hidden,)
        self.U = Parameter(init.glorot(rng, (inputs, hidden), 3, dtype))
        self.b = _bias(hidden, [forget_bias, 0, 0], dtype)

    def step(self, x: Array, state: Array) -> Any:
        """h'."""
        f, i, n = np.split(x @ self.U + self.b, 3, axis=-1)
        # s(f) / (s(f) + s(i)), by logarithms: both sigmoids may be too small for a float
        f = sigmoid(softplus(-i) - softplus(-f))
        return f * state + (1 - f) * n


class MinimalRNN(Cell):
    """The input is first mapped to z, which lives where h does; one gate chooses between the two.

        cell = tg.zoo.MinimalRNN(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    z = tanh(x U + b_z);  u = s(h V + z W + b);  h' = u h + (1 - u) z

    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, H), b_z (H,), V (H, H), W (H, H), b (H,). State: h. Raises RngError without
    rng, ShapeError for x of another width. Source: Chen 2017, arXiv:1711.06788.
    """

    def __init__(self, inputs: int, hidden: int, rng: Any = None, dtype: Any = np.float64) -> None:
        rng = init.generator(rng)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, (hidden,)
        self.U = Parameter(init.glorot(rng, (inputs, hidden), dtype=dtype))
        self.V = Parameter(init.orthogonal(rng, hidden, dtype=dtype))
        self.W = Parameter(init.glorot(rng, (hidden, hidden), dtype=dtype))
        self.b_z, self.b = (Parameter(np.zeros(hidden, dtype)) for _ in range(2))

    def step(self, x: Array, state: Array) -> Any:
        """h'."""
        z = np.tanh(x @ self.U + self.b_z)
        u = sigmoid(state @ self.V + z @ self.W + self.b)
        return u * state + (1 - u) * z


class NBRC(Cell):
    """The bistable cell: a unit feeds itself with strength a; above 1 it can keep a bit for ever.

        cell = tg.zoo.NBRC(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    a = 1 + tanh(x U[a] + h V[a] + b[a]);  c = s(x U[c] + h V[c] + b[c])
    h' = c h + (1 - c) tanh(x U[n] + a h + b[n])

    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 3H), V (H, 2H), for a and c alone, b (3H,). State: h. Raises RngError without
    rng, ShapeError for x of another width. Source: Vecoven, Ernst and Drion 2020, arXiv:2006.05252.
    """

    gates = ("a", "c", "n")

    def __init__(self, inputs: int, hidden: int, rng: Any = None, dtype: Any = np.float64) -> None:
        rng = init.generator(rng)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, (hidden,)
        self.U = Parameter(init.glorot(rng, (inputs, hidden), 3, dtype))
        self.V = Parameter(init.orthogonal(rng, hidden, 2, dtype))
        self.b = _bias(hidden, [0, 0, 0], dtype)

    def step(self, x: Array, state: Array) -> Any:
        """h'."""
        xa, xc, xn = np.split(x @ self.U + self.b, 3, axis=-1)
        ha, hc = np.split(state @ self.V, 2, axis=-1)
        a, c = 1 + np.tanh(xa + ha), sigmoid(xc + hc)
        return c * state + (1 - c) * np.tanh(xn + a * state)


class FastGRNN(Cell):
    """A gated RNN as small as the vanilla one: gate and candidate share U and V.

        cell = tg.zoo.FastGRNN(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    p = x U + h V;  z = s(p + b_z);  n = tanh(p + b_n)
    h' = (s(zeta) (1 - z) + s(nu)) n + z h

    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, H), V (H, H), b_z (H,), b_n (H,), and two single numbers, zeta () starting at
    1 and nu () at -4. State: h. Raises RngError without rng, ShapeError for x of another width.
    Source: Kusupati 2018, arXiv:1901.02358.
    """

    def __init__(self, inputs: int, hidden: int, rng: Any = None, dtype: Any = np.float64) -> None:
        rng = init.generator(rng)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, (hidden,)
        self.U = Parameter(init.glorot(rng, (inputs, hidden), dtype=dtype))
        self.V = Parameter(init.orthogonal(rng, hidden, dtype=dtype))
        self.b_z, self.b_n = (Parameter(np.zeros(hidden, dtype)) for _ in range(2))
        self.zeta, self.nu = Parameter(np.array(1, dtype)), Parameter(np.array(-4, dtype))

    def step(self, x: Array, state: Array) -> Any:
        """h'."""
        p = x @ self.U + state @ self.V
        z = sigmoid(p + self.b_z)
        n = np.tanh(p + self.b_n)
        return (sigmoid(self.zeta) * (1 - z) + sigmoid(self.nu)) * n + z * state


# ----- Kin of the vanilla RNN --------------------------------------------------------------------


class IRNN(RNNCell):
    """The vanilla RNN with relu, whose V starts as the identity: at first, it remembers all.

        cell = tg.zoo.IRNN(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    h' = relu(x U + h V + b)

    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, H), V (H, H), b (H,). State: h. Raises RngError without rng, ShapeError for x
    of another width. Source: Le, Jaitly and Hinton 2015, arXiv:1504.00941.
    """

    def __init__(self, inputs: int, hidden: int, rng: Any = None, dtype: Any = np.float64) -> None:
        super().__init__(inputs, hidden, "relu", rng=rng, dtype=dtype)
        self.V = Parameter(np.eye(hidden, dtype=dtype))


class IndRNN(Cell):
    """Every unit sees itself alone, not the others: the state's part is a vector, not a matrix.

        cell = tg.zoo.IndRNN(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    h' = phi(x U + v h + b)

    activation  phi: tanh, relu, sigmoid, identity or a callable
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, H), v (H,) uniform in (-1, 1), b (H,). State: h. Over T steps a unit's
    gradient grows as v^T: the paper keeps |v| below 2^(1/T). Raises RngError without rng,
    ShapeError for x of another width. Source: Li 2018, arXiv:1803.04831.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        activation: Any = "relu",
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        rng = init.generator(rng)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, (hidden,)
        self.activation = activation_named(activation)
        self.U = Parameter(init.glorot(rng, (inputs, hidden), dtype=dtype))
        self.v = Parameter(init.uniform(rng, (hidden,), 1.0, dtype))
        self.b = Parameter(np.zeros(hidden, dtype))

    def step(self, x: Array, state: Array) -> Any:
        """h'."""
        return self.activation(x @ self.U + self.v * state + self.b)


class AntisymmetricRNN(Cell):
    """A step of a differential equation with an antisymmetric matrix: it turns, not blows up.

        cell = tg.zoo.AntisymmetricRNN(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    h' = h + eps tanh(x U + h (V - V^T - gamma I) + b)

    eps         the length of the step
    gamma       damping, which makes up for the step not being infinitely short
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, H), V (H, H), b (H,). State: h. Raises RngError without rng, ShapeError for x
    of another width. Source: Chang 2019, arXiv:1902.09689.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        eps: float = 0.1,
        gamma: float = 0.01,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        rng = init.generator(rng)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, (hidden,)
        self.eps, self.gamma = eps, gamma
        self.U = Parameter(init.glorot(rng, (inputs, hidden), dtype=dtype))
        self.V = Parameter(init.orthogonal(rng, hidden, dtype=dtype))
        self.b = Parameter(np.zeros(hidden, dtype))

    def step(self, x: Array, state: Array) -> Any:
        """h'."""
        turned = state @ (self.V - self.V.T) - self.gamma * state
        return state + self.eps * np.tanh(x @ self.U + turned + self.b)


class CoRNN(Cell):
    """Coupled oscillators, pushed by the input: y is where they are, z how fast they move.

        cell = tg.zoo.CoRNN(3, 4, rng=0)
        tg.RNN(cell)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    z' = z + dt (tanh(x U + y V + z W + b) - gamma y - eps z);  y' = y + dt z'

    dt          the length of the step
    gamma, eps  how strongly a unit is drawn back to 0, and how strongly it is slowed down
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, H), V (H, H), W (H, H), b (H,). State: (y, z); the output is y. Raises
    RngError without rng, ShapeError for x of another width.
    Source: Rusch and Mishra 2020, arXiv:2010.00951.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        dt: float = 0.1,
        gamma: float = 1.0,
        eps: float = 1.0,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        rng = init.generator(rng)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, ((hidden,), (hidden,))
        self.dt, self.gamma, self.eps = dt, gamma, eps
        self.U = Parameter(init.glorot(rng, (inputs, hidden), dtype=dtype))
        self.V, self.W = (Parameter(init.orthogonal(rng, hidden, dtype=dtype)) for _ in range(2))
        self.b = Parameter(np.zeros(hidden, dtype))

    def step(self, x: Array, state: Any) -> Any:
        """Output y', state (y', z')."""
        y, z = state
        push = np.tanh(x @ self.U + y @ self.V + z @ self.W + self.b)
        z = z + self.dt * (push - self.gamma * y - self.eps * z)
        y = y + self.dt * z
        return y, (y, z)


class LinearStateRNN(RNNCell):
    """phi is on the way out only: the state that is carried on has seen no phi.

        forward, backward = (tg.zoo.LinearStateRNN(3, 4, rng=seed) for seed in (0, 1))
        tg.BiRNN(forward, backward)(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 8)

    z' = x U + z V + b;  output phi(z')

    This is the first tutorial's bidirectional network, read to the letter: there z_t is computed
    from z_{t-1}, and H_t = phi(z_t) goes to the output layer. RNNCell carries phi(z_t) instead, as
    that tutorial's own section on the plain RNN does. Arguments and parameters as for RNNCell: U
    (C, H), V (H, H), b (H,). State: z. Raises RngError without rng, ShapeError for x of another
    width. Source: tutorial 1, section 2.4.3.
    """

    def step(self, x: Array, state: Array) -> Any:
        """Output phi(z'), state z'."""
        z = x @ self.U + state @ self.V
        z = z if self.b is None else z + self.b
        return self.activation(z), z


# ----- Cells that know the time ------------------------------------------------------------------


class Clockwork(Cell):
    """Groups of units, each with a clock of its own: slow ones keep what fast ones forget.

        cell = tg.zoo.Clockwork(3, 8, periods=(1, 4), rng=0)      # four fast units, four slow ones
        y, (h, clock) = cell(np.ones((2, 3)), cell.initial_state((2,)))

    A unit of period P is computed at steps 0, P, 2P, ...: h' = tanh(x U + h V + b); at all others
    h' = h. A unit hears those of its own period and of longer ones: the rest of V counts as 0.

    periods     one whole number for each group; the groups share the hidden units equally
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, H), V (H, H), b (H,). State: (h, clock); clock (1,) counts the steps, each row
    of a batch its own, and starts over when all groups' periods have passed together. It is a whole
    number and has no gradient. Raises RngError without rng, ShapeError for periods, and for x of
    another width. Source: Koutnik 2014, arXiv:1402.3511.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        periods: tuple[int, ...] = (1, 2, 4, 8),
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        if not periods or hidden % len(periods) or min(periods) < 1:
            raise ShapeError(
                f"periods={periods!r}: expected whole numbers from 1, as many as divide the "
                f"{hidden} hidden units into equal groups"
            )
        rng = init.generator(rng)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, ((hidden,), (1,))
        self.periods = np.repeat(np.array(periods), hidden // len(periods))
        self.cycle = math.lcm(*periods)
        self.hears = self.periods[:, None] >= self.periods  # from row's unit to column's unit
        self.U = Parameter(init.glorot(rng, (inputs, hidden), dtype=dtype))
        self.V = Parameter(init.orthogonal(rng, hidden, dtype=dtype))
        self.b = Parameter(np.zeros(hidden, dtype))

    def step(self, x: Array, state: Any) -> Any:
        """Output h', state (h', clock')."""
        h, clock = state
        now = np.rint(clock)  # flat: no gradient passes, even where the start is trained
        new = np.tanh(x @ self.U + h @ (self.V * self.hears) + self.b)
        h = np.where(now % self.periods == 0, new, h)
        return h, (h, (now + 1) % self.cycle)


class CfC(_Gated):
    """Closed-form continuous time: what happens depends on how long ago the last step was.

        cell = tg.zoo.CfC(3, 4, rng=0)
        values, gaps = np.ones((5, 2, 3)), np.full((5, 2, 1), 0.1)
        tg.RNN(cell)((values, gaps)).outputs.shape        # (5, 2, 4)

    u = s(a gap + d);  h' = (1 - u) tanh(f) + u tanh(g)

    x is a pair: values (T, N, C), and the time since the step before, gaps (T, N, 1).
    inputs, hidden, rng, dtype: as for GRUCell.
    Parameters: U (C, 4H), V (H, 4H), b (4H,). State: h. Without the optional layers ("backbone")
    before the gates. Raises RngError without rng, CellError where x is no pair, ShapeError for
    another width. Source: Hasani 2021, arXiv:2106.13898.
    """

    gates = ("f", "g", "a", "d")

    def step(self, x: Any, state: Array) -> Any:
        """h'."""
        if not (isinstance(x, tuple) and len(x) == 2):  # a batch of 2 would unpack as well
            raise CellError("CfC takes a pair of arrays (values, gaps) as x, time gaps (T, N, 1)")
        values, gap = x
        f, g, a, d = self._split(values @ self.U + state @ self.V + self.b)
        u = sigmoid(a * gap + d)
        return (1 - u) * np.tanh(f) + u * np.tanh(g)
