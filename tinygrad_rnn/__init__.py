"""Recurrent networks from scratch on NumPy: write plain NumPy, the engine lifts it.

    import numpy as np, tinygrad_rnn as tg

    rnn = tg.RNN(tg.RNNCell(3, 4, rng=0))
    out = rnn(np.ones((5, 2, 3)))          # x (T, N, C): time first
    tg.mse(out.last, np.zeros((2, 4))).backward()
    rnn.cell.V.grad                        # the sum of what every time step contributes

The engine: graph.py, tensor.py, rules.py. Recurrent networks: cells.py, recurrent.py. Checks:
`from tinygrad_rnn import testing`. The demo: `python -m tinygrad_rnn`.
"""

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
