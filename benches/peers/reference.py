"""The cells and their gradients in f64, as the equations are written."""

import numpy as np

from cells import GATES


def logistic(z):
    return 1 / (1 + np.exp(-z))


def draw(cell, hidden, batch, steps):
    """The same data for the same shape, with I = H."""
    rng = np.random.default_rng([hidden, batch, steps])

    def uniform(limit, *shape):
        return rng.uniform(-limit, limit, shape).astype(np.float32)

    scale = hidden**-0.5
    rows = GATES[cell] * hidden
    data = {
        "u": uniform(scale, rows, hidden),
        "w": uniform(scale, rows, hidden),
        "b": uniform(scale, rows),
        "x": uniform(1, steps, batch, hidden),
        "dy": uniform(1, steps, batch, hidden),
    }
    if cell == "gru":
        data["b_hn"] = uniform(scale, hidden)
    return data


def lengths(batch, steps, fill):
    """One for each sequence, in an order drawn from a seed: spread evenly up to `steps`, which the
    longest has, so that their mean is `fill` of it, or from 1 on where that is more."""
    shortest = max(1, round((2 * fill - 1) * steps))
    spread = np.linspace(shortest, steps, batch).round().astype(int)
    return np.random.default_rng([batch, steps]).permutation(spread)


def results(cell, data, train, lengths=None):
    """y, and in training du, dw, db, dx and the GRU's db_hn, of the data in f64. With `lengths`
    also h_n, the last state of each sequence; what stands after its end is not read."""
    data = {name: values.astype(np.float64) for name, values in data.items()}
    if lengths is not None:
        # A step comes to know nothing of those after it but what its gradient says. So the steps
        # after the end can be computed all the same, if nothing comes back from them.
        ended = np.arange(len(data["x"]))[:, np.newaxis] >= lengths
        data["dy"][ended] = 0
    u, w, x, dy = (data[name] for name in ("u", "w", "x", "dy"))
    forward, backward = CELLS[cell]
    h = np.zeros((len(dy) + 1, *dy.shape[1:]))
    memory = forward(x @ u.T + data["b"], w, h, data)
    outputs = {"y": h[1:]}
    if lengths is not None:
        outputs = {"y": np.where(ended[..., np.newaxis], 0, h[1:])}
        outputs["h_n"] = h[lengths, np.arange(len(lengths))]
    if not train:
        return outputs

    return outputs | gradients(cell, u, x, h, *backward(memory, w, h, dy))


def gradients(cell, u, x, h, below, before):
    """Of the parameters and x, from those of what the gates get from below, and of what they get
    from the last step."""
    below_rows, before_rows, x_rows, h_rows = (
        values.reshape(-1, values.shape[-1]) for values in (below, before, x, h[:-1])
    )
    found = {
        "du": below_rows.T @ x_rows,
        "dw": before_rows.T @ h_rows,
        "db": below_rows.sum(axis=0),
        "dx": below @ u,
    }
    if cell == "gru":
        found["db_hn"] = before_rows.sum(axis=0)[2 * h.shape[-1] :]
    return found


def lstm_forward(gates, w, h, _data):
    """Fills h from its second row on; the activations i, f, g, o and the cell's states."""
    s = np.zeros_like(h)
    for t, z in enumerate(gates):
        z += h[t] @ w.T
        i, f, g, o = np.split(z, 4, axis=1)
        i[:], f[:], g[:], o[:] = logistic(i), logistic(f), np.tanh(g), logistic(o)
        s[t + 1] = f * s[t] + i * g
        h[t + 1] = o * np.tanh(s[t + 1])
    return gates, s


def lstm_backward(memory, w, _h, dy):
    gates, s = memory
    dz = np.empty_like(gates)
    dh, ds = np.zeros_like(dy[0]), np.zeros_like(dy[0])
    for t in reversed(range(len(dy))):
        i, f, g, o = np.split(gates[t], 4, axis=1)
        tanh_s = np.tanh(s[t + 1])
        dh += dy[t]
        ds += dh * o * (1 - tanh_s**2)
        parts = [
            ds * g * i * (1 - i),
            ds * s[t] * f * (1 - f),
            ds * i * (1 - g**2),
            dh * tanh_s * o * (1 - o),
        ]
        dz[t] = np.concatenate(parts, axis=1)
        dh = dz[t] @ w
        ds *= f
    return dz, dz


def gru_forward(gates, w, h, data):
    """Fills h from its second row on; the activations r, u, n, and what r is applied to."""
    products = np.empty_like(h[1:])
    for t, z in enumerate(gates):
        r, u, n = np.split(z, 3, axis=1)
        from_r, from_u, product = np.split(h[t] @ w.T, 3, axis=1)
        products[t] = product + data["b_hn"]
        r[:], u[:] = logistic(r + from_r), logistic(u + from_u)
        n[:] = np.tanh(n + r * products[t])
        h[t + 1] = u * h[t] + (1 - u) * n
    return gates, products


def gru_backward(memory, w, h, dy):
    gates, products = memory
    below, before = np.empty_like(gates), np.empty_like(gates)
    dh = np.zeros_like(dy[0])
    for t in reversed(range(len(dy))):
        r, u, n = np.split(gates[t], 3, axis=1)
        dh += dy[t]
        dn = dh * (1 - u) * (1 - n**2)
        dr = dn * products[t] * r * (1 - r)
        du = dh * (h[t] - n) * u * (1 - u)
        below[t] = np.concatenate([dr, du, dn], axis=1)
        before[t] = np.concatenate([dr, du, dn * r], axis=1)
        dh = dh * u + before[t] @ w
    return below, before


def vanilla_forward(gates, w, h, _data):
    """Fills h from its second row on, which is all that there is."""
    for t, z in enumerate(gates):
        h[t + 1] = np.tanh(z + h[t] @ w.T)


def vanilla_backward(_memory, w, h, dy):
    dz = np.empty_like(dy)
    dh = np.zeros_like(dy[0])
    for t in reversed(range(len(dy))):
        dz[t] = (dh + dy[t]) * (1 - h[t + 1] ** 2)
        dh = dz[t] @ w
    return dz, dz


CELLS = {
    "lstm": (lstm_forward, lstm_backward),
    "gru": (gru_forward, gru_backward),
    "vanilla": (vanilla_forward, vanilla_backward),
}
