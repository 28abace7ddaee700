"""Recurrent networks from scratch on NumPy: write plain NumPy, the engine lifts it.

    import numpy as np, tinygrad_rnn as tg

    rnn = tg.RNN(tg.RNNCell(3, 4, rng=0))
    out = rnn(np.ones((5, 2, 3)))          # x (T, N, C): time first
    tg.mse(out.last, np.zeros((2, 4))).backward()
    rnn.cell.V.grad                        # the sum of what every time step contributes

What to do next, each with help():

    a cell of your own       tg.Cell; LSTMCell, GRUCell and tg.zoo are written in the same way
    layers                   tg.RNN, tg.BiRNN, tg.Chain
    train                    tg.fit, tg.Adam, tg.cross_entropy; tg.save, tg.load
    BPTT made visible        tg.contributions, tg.gradient_flow, tg.draw; rnn.source() after scan
    is a gradient right?     from tinygrad_rnn import testing
    on the shell             python -m tinygrad_rnn, the demo; --help lists what else there is

To read: tensor.py, graph.py and rules.py are the engine; cells.py and recurrent.py the networks.
"""

import typing as _typing
from difflib import get_close_matches as _nearest

try:
    import numpy as _np
except ModuleNotFoundError as error:
    if error.name != "numpy":
        raise
    advice = "tinygrad_rnn needs NumPy 2.0 or newer: python -m pip install 'numpy>=2.0'"
    # under this name `python -m tinygrad_rnn` says so in one line, without a traceback
    raise ModuleNotFoundError(advice, name=__name__) from None

from . import composed as _composed  # noqa: F401  (it fills a table)
from . import errors, init, rules, zoo
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .differentiate import checkpoint, detach, detect_nonfinite, grad, hvp, jvp, no_grad
from .exchange import from_torch, to_torch
from .figures.drawing import draw
from .files import load, save
from .functions import dropout, layer_norm, log_softmax, logsumexp, relu, sigmoid, softmax, softplus
from .insight import contributions, gradient_flow, sensitivity, state_jacobians
from .losses import binary_cross_entropy, cross_entropy, mse, rmse
from .module import Embedding, Linear, Module, Parameter
from .onnx_model import export_onnx
from .optim import SGD, Adagrad, Adam, RMSprop, clip_grad_norm, clip_grad_value
from .recurrent import RNN, BiRNN, Chain, RNNOutput, generate
from .rules import primitive
from .streaming import Stream
from .tensor import Tensor
from .train import History, fit
from .vjp import COMPOSED as _COMPOSED
from .vjp import RULES as _RULES
from .vjp import Array, defvjp, vjp_of
from .wrappers import Readout, Residual, Stacked, VariationalDropout, Zoneout

__version__ = "0.1.0"

__all__ = [
    "RNN",
    "SGD",
    "Adagrad",
    "Adam",
    "Array",
    "BiRNN",
    "Cell",
    "Chain",
    "Embedding",
    "GRUCell",
    "History",
    "LSTMCell",
    "Linear",
    "Module",
    "Parameter",
    "RMSprop",
    "RNNCell",
    "RNNOutput",
    "Readout",
    "Residual",
    "Stacked",
    "Stream",
    "Tensor",
    "VariationalDropout",
    "Zoneout",
    "binary_cross_entropy",
    "checkpoint",
    "clip_grad_norm",
    "clip_grad_value",
    "contributions",
    "cross_entropy",
    "defvjp",
    "detach",
    "detect_nonfinite",
    "draw",
    "dropout",
    "errors",
    "export_onnx",
    "fit",
    "from_torch",
    "generate",
    "grad",
    "gradient_flow",
    "hvp",
    "init",
    "jvp",
    "layer_norm",
    "load",
    "log_softmax",
    "logsumexp",
    "mse",
    "no_grad",
    "primitive",
    "relu",
    "rmse",
    "rules",
    "save",
    "sensitivity",
    "sigmoid",
    "softmax",
    "softplus",
    "state_jacobians",
    "to_torch",
    "vjp_of",
    "zoo",
]


_INSTEAD = {
    "GRU": "write tg.RNN(tg.GRUCell(inputs, hidden, rng=0))",
    "LSTM": "write tg.RNN(tg.LSTMCell(inputs, hidden, rng=0))",
    "Sequential": "write tg.Chain(layer, layer, ...)",
    "ModuleList": "a plain list in an attribute of a tg.Module will do",
    "Optimizer": "it is tg.optim.Optimizer",
    "backward": "it is a method: loss.backward()",
    "cat": "it is NumPy's, np.concatenate, which works on Tensors",
    "manual_seed": "seeds are arguments: rng=0",
    "mse_loss": "it is tg.mse(output, target)",
    "nn": "its names are in tg itself: tg.Linear, tg.RNN, tg.cross_entropy",
    "randn": "write np.random.default_rng(0).normal(size=shape)",
    "testing": "write from tinygrad_rnn import testing",
}


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__version__", "testing"])


if not _typing.TYPE_CHECKING:  # a type checker would take every name for one that there is

    def __getattr__(name):
        """What to write for a name that is not here, as an AttributeError."""
        public = {known.lower(): known for known in __all__}
        if name in _INSTEAD:
            advice = f": {_INSTEAD[name]}"
        elif name in _np.__all__:
            f = getattr(_np, name)
            works = callable(f) and (f in _RULES or f in _COMPOSED)
            advice = f": it is NumPy's, np.{name}{', which works on Tensors' if works else ''}"
        else:
            near = _nearest(name.lower(), public, 1)
            advice = f". Did you mean tg.{public[near[0]]}?" if near else ""
        # (without a name Python adds no guess of its own)
        raise AttributeError(f"tinygrad_rnn has no {name!r}{advice}", name="", obj=None)
