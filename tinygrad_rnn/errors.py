"""The named errors. Each is a TinygradError and also the built-in error that fits."""

from __future__ import annotations


class TinygradError(Exception):
    """What every error of this package derives from."""


class ShapeError(TinygradError, ValueError):
    """Shapes, lengths or batch sizes that do not fit together."""


class DtypeError(TinygradError, TypeError):
    """A dtype that cannot do what was asked: integers have no gradient."""


class ConversionError(TinygradError, TypeError):
    """NumPy asked a Tensor to turn into a plain array, which would lose its graph."""


class InplaceError(TinygradError, TypeError):
    """An attempt to change a Tensor's elements in place."""


class MissingRuleError(TinygradError, TypeError):
    """A function, argument or keyword for which no VJP is registered."""


class RuleError(TinygradError, ValueError):
    """A VJP that is registered wrongly, or that returned the wrong shape."""


class GraphFreedError(TinygradError, RuntimeError):
    """The graph was already walked back, and its saved arrays were freed."""


class NoGradientError(TinygradError, RuntimeError):
    """A gradient was asked of a Tensor that needs none."""


class NotScalarError(TinygradError, ValueError):
    """A gradient was asked of a Tensor with several elements, and no cotangent was given."""


class UnusedInputError(TinygradError, ValueError):
    """A gradient was asked for an input that the result does not depend on."""


class NonFiniteError(TinygradError, ArithmeticError):
    """A NaN or an infinity appeared where one was looked for."""


class TraceError(TinygradError, TypeError):
    """A value was read while a step was being traced."""


class CellError(TinygradError, TypeError, ValueError):
    """A cell, or the state given to it, does not keep the contract of a cell."""


class RngError(TinygradError, TypeError):
    """Something is drawn at random, and no seed or generator was given."""
