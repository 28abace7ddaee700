"""A way out, and back: train here, go on in PyTorch, come back.

Task: many-to-many, of generated data. Is the running sum of ±1 steps above 0, and will it be lower
at the end? The second answer needs the future, so the network reads both ways. Takes about 10 s,
and needs PyTorch: pip install torch, its CPU build. The safetensors package is not needed.

    python examples/to_pytorch_and_back.py            # three lines of losses, two differences
    python examples/to_pytorch_and_back.py --quick    # 2 s, for tests

What to expect: after each move the two networks give the same outputs (the example stops where they
differ by 1e-6), and the loss goes on from where it was. Numbers are float64 here, so that what
differs would be a mistake and not rounding; in float32 it is about 1e-6.
"""

# %% Two networks, one function: a BiRNN of GRUs, and a readout.
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import tinygrad_rnn as tg

rng = np.random.default_rng(0)
torch.manual_seed(0)
torch.set_num_threads(1)  # of matrices this small, a second thread makes nothing faster
HIDDEN, STEPS = 16, 20 if "--quick" in sys.argv else 150


class Here(tg.Module):
    def __init__(self):
        cells = [tg.GRUCell(1, HIDDEN, rng=rng) for _ in range(2)]
        self.rnn = tg.BiRNN(*cells, scan=True)
        self.readout = tg.Linear(2 * HIDDEN, 2, rng=rng)

    def __call__(self, x):
        return self.readout(self.rnn(x).outputs)


class There(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.GRU(1, HIDDEN, bidirectional=True)
        self.readout = torch.nn.Linear(2 * HIDDEN, 2)

    def forward(self, x):
        return self.readout(self.rnn(x)[0])


def batch(steps=20, size=32):
    """Steps (T, N, 1), and both answers (T, N, 2) as 0 and 1."""
    x = rng.choice([-1.0, 1.0], (steps, size, 1))
    height = np.cumsum(x, axis=0)
    answers = np.concatenate([height > 0, height[-1:] < height], axis=-1)
    return x, answers.astype(float)


def compared(here, there):
    """The largest difference of the outputs."""
    x = batch()[0]
    difference = np.abs(here(x).data - there(torch.from_numpy(x)).detach().numpy()).max()
    assert difference < 1e-6, difference
    return difference


def train_here(model):
    optimizer = tg.Adam(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        x, answers = batch()
        loss = tg.binary_cross_entropy(model(x), answers)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


# %% Train here, and leave: one file, under PyTorch's names. Gates and transposes are taken care of.
here = Here()
print(f"trained here              loss {train_here(here):.3f}")

path = Path(tempfile.mkdtemp()) / "weights.safetensors"
layers = {"rnn": here.rnn, "readout": here.readout}
arrays = {f"{k}.{n}": a for k, layer in layers.items() for n, a in tg.to_torch(layer).items()}
tg.save(path, arrays)

# %% Go on in PyTorch. (safetensors.torch.load_file(path) gives the same, as torch tensors.)
there = There().double()
there.load_state_dict({name: torch.from_numpy(a) for name, a in tg.load(path).items()})
print(f"the same in PyTorch       outputs differ by {compared(here, there):.1e}")

optimizer = torch.optim.Adam(there.parameters(), lr=0.01)
for _ in range(STEPS):
    x, answers = map(torch.from_numpy, batch())
    loss = torch.nn.functional.binary_cross_entropy_with_logits(there(x), answers)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"trained on in PyTorch     loss {loss.item():.3f}")

# %% And back. PyTorch has two biases where one would do: their sum comes back.
tg.save(path, {name: tensor.numpy() for name, tensor in there.state_dict().items()})
arrays = tg.load(path)
for name, layer in layers.items():
    tg.from_torch(layer, {n: a for n, a in arrays.items() if n.startswith(f"{name}.")})
print(f"the same here again       outputs differ by {compared(here, there):.1e}")
print(f"trained on here           loss {train_here(here):.3f}")
