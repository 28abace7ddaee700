"""Recorded networks of every form, for pictures: name -> (what to draw, options of tg.draw)."""

import numpy as np

import tinygrad_rnn as tg

C, H = 3, 4


def rng(seed=0):
    return np.random.default_rng(seed)


def x(steps, rows=2, width=C):
    return rng().normal(size=(steps, rows, width))


def squares(out):
    return (out.outputs**2).sum()


def rnn(scan=False):
    net, readout = tg.RNN(tg.RNNCell(C, H, rng=0), scan=scan), tg.Linear(H, 3, rng=1)
    loss = tg.cross_entropy(readout(net(x(8)).outputs), rng().integers(0, 3, (8, 2)))
    return loss, {"names": readout, "inputs": "hello wo", "outputs": "ello wor"}


def birnn(scan=False, cell=tg.GRUCell):
    return squares(tg.BiRNN(cell(C, H, rng=0), cell(C, H, rng=1), scan=scan)(x(6))), {}


def encoder_decoder(encoder_steps=4, decoder_steps=3):
    encoder, decoder = (tg.RNN(tg.GRUCell(C, H, rng=k)) for k in (0, 1))
    readout = tg.Linear(H, 3, rng=2)
    state = encoder(x(encoder_steps)).state
    out = decoder(x(decoder_steps), state=state)
    return (readout(out.outputs) ** 2).sum(), {"names": readout}


def two_way_encoder():
    encoder = tg.BiRNN(tg.GRUCell(C, H, rng=0), tg.GRUCell(C, H, rng=1))
    decoder = tg.RNN(tg.GRUCell(C, 2 * H, rng=2))
    state = np.concatenate(encoder(x(3)).state, axis=-1)
    return squares(decoder(x(3), state=state)), {}


def attention():
    encoder, cell = tg.RNN(tg.GRUCell(C, H, rng=0)), tg.GRUCell(C + H, H, rng=1)
    out = encoder(x(4))
    h, outputs = out.state, []
    for x_t in tg.Tensor(x(3)):
        weights = tg.softmax((out.outputs * h).sum(axis=-1), axis=0)
        context = (out.outputs * weights[..., None]).sum(axis=0)
        y, h = cell(np.concatenate([x_t, context], axis=-1), h)
        outputs.append(y)
    return (np.stack(outputs) ** 2).sum(), {"names": {"decoder": cell}}


def stacked():
    readout = tg.Linear(H, 2, rng=2)
    layers = tg.RNN(tg.LSTMCell(C, H, rng=0)), tg.RNN(tg.GRUCell(H, H, rng=1)), readout
    return squares(tg.Chain(*layers)(x(5))), {"names": readout}


def stacked_birnns():
    def both(width, seed):
        return tg.BiRNN(tg.RNNCell(width, H, rng=seed), tg.RNNCell(width, H, rng=seed + 1))

    return squares(tg.Chain(both(C, 0), both(2 * H, 2), tg.Linear(2 * H, 2, rng=4))(x(4))), {}


def shared_birnn():
    cell = tg.RNNCell(C, H, rng=0)
    return squares(tg.BiRNN(cell, cell)(x(4))), {}


def own_loop():
    U, V = (tg.Parameter(rng(k).normal(size=(n, H))) for k, n in ((0, C), (1, H)))
    h = np.zeros((2, H))
    for x_t in tg.Tensor(x(5)):
        h = np.tanh(x_t @ U + h @ V)
    return (h**2).sum(), {}


def many_to_one():
    return tg.RNN(tg.LSTMCell(C, H, rng=0))(x(5)).last.sum(), {}


def ragged():
    return squares(tg.RNN(tg.LSTMCell(C, H, rng=0), scan=True)(x(5), lengths=[5, 3])), {}


def truncated():
    return tg.RNN(tg.RNNCell(C, H, rng=0))(x(8), truncate=3).last.sum(), {}


def reverse():
    return tg.RNN(tg.GRUCell(C, H, rng=0), reverse=True)(x(4)).last.sum(), {}


def embedding():
    table, net = tg.Embedding(5, C, rng=0), tg.RNN(tg.RNNCell(C, H, rng=0), train_state=True)
    return (net(table(rng().integers(0, 5, (4, 2)))).last ** 2).sum(), {"names": table}


def generated():
    cell = tg.Readout(tg.RNNCell(C, H, rng=0), tg.Linear(H, C, rng=1))
    return squares(tg.generate(cell, np.ones((1, C)), 4, lambda y, rng: y, rng=0)), {}


def stacked_cell():
    cell = tg.Stacked(tg.RNNCell(C, H, rng=0), tg.LSTMCell(H, H, rng=1))
    return tg.RNN(cell)(x(4), lengths=[4, 2]).last.sum(), {}


def one_step():
    return tg.RNN(tg.LSTMCell(C, H, rng=0))(x(1)).last.sum(), {}


def forward_only():
    return tg.BiRNN(tg.RNNCell(C, H, rng=0), tg.RNNCell(C, H, rng=1))(x(3)), {"outputs": "abc"}


def long():
    return tg.RNN(tg.RNNCell(C, H, rng=0))(x(1000)).last.sum(), {}


def long_stack():
    layers = tg.RNN(tg.LSTMCell(C, H, rng=0)), tg.RNN(tg.GRUCell(H, H, rng=1))
    return squares(tg.Chain(*layers)(x(1000))), {}


NETWORKS = {
    f.__name__: f
    for f in (
        rnn, birnn, encoder_decoder, two_way_encoder, attention, stacked, stacked_birnns,
        shared_birnn, own_loop, many_to_one, ragged, truncated, reverse, embedding, generated,
        stacked_cell, one_step, forward_only, long, long_stack,
    )
}  # fmt: skip
