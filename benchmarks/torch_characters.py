"""The networks of examples/characters.py in PyTorch: same data, sizes, optimisers, steps.

    python benchmarks/torch_characters.py               # seeds 0, 1, 2
    python benchmarks/torch_characters.py --seed 0 --steps 200

Weights start as PyTorch draws them; those of the classic are small normal numbers, as there.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import characters as ours  # (first: it pins threads)
import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)


class Network(nn.Module):
    """One-hot characters (T, N) to logits (T, N, K)."""

    def __init__(self, kind):
        super().__init__()
        self.rnn = getattr(nn, kind)(ours.K, ours.HIDDEN)
        self.readout = nn.Linear(ours.HIDDEN, ours.K)

    def forward(self, codes, state=None):
        """Logits, and the state after the last step."""
        outputs, state = self.rnn(nn.functional.one_hot(codes, ours.K).float(), state)
        return self.readout(outputs), state


def loss_of(logits, targets, reduction="mean"):
    """Nats per character."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)


def cut(state):
    """As the example's."""
    return tuple(map(cut, state)) if isinstance(state, tuple) else state.detach()


def classic(steps):
    """A tanh RNN, one chunk after the other, Adagrad."""
    model, state = Network("RNN"), None
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.01 * (p.ndim == 2) * torch.randn(p.shape))
    optimizer = torch.optim.Adagrad(
        model.parameters(), lr=0.1, eps=0, initial_accumulator_value=1e-8
    )
    for _, (window, first) in zip(range(steps), ours.chunks(1), strict=False):
        window = torch.from_numpy(window)
        logits, state = model(window[:-1], None if first else state)
        state = cut(state)
        optimizer.zero_grad()
        loss_of(logits, window[1:], "sum").backward()
        nn.utils.clip_grad_value_(model.parameters(), 5)
        optimizer.step()
    return model


def trained(kind, steps, lr=0.01):
    """Sixteen parts of the text side by side, Adam, an lr that sinks to a tenth."""
    model, state = Network(kind), None
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for step, (window, first) in enumerate(ours.chunks(ours.STREAMS)):
        if step == steps:
            return model
        window = torch.from_numpy(window)
        optimizer.param_groups[0]["lr"] = lr * (1 - 0.9 * step / steps)
        logits, state = model(window[:-1], None if first else state)
        state = cut(state)
        optimizer.zero_grad()
        loss_of(logits, window[1:]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()


def nats(model):
    """As the example's."""
    window = torch.from_numpy(np.ascontiguousarray(ours.streams(ours.held_out, 64)))
    with torch.no_grad():
        return loss_of(model(window[:-1])[0], window[1:]).item()


def main():
    """A line for each network and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=ours.STEPS)
    given = parser.parse_args()
    for seed in given.seed:
        for name in ("classic RNN", "RNN", "LSTM", "GRU"):
            torch.manual_seed(seed)
            began = time.perf_counter()
            if name == "classic RNN":
                model = classic(ours.CLASSIC * given.steps)
            else:
                model = trained(name, given.steps)
            seconds = time.perf_counter() - began
            print(f"seed {seed}: {name} {nats(model):.3f} nats, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
