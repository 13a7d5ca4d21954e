"""The LSTM and its gradients in f64, as the equations are written."""

import numpy as np


def logistic(z):
    return 1 / (1 + np.exp(-z))


def draw(hidden, batch, steps):
    """The same data for the same shape, with I = H."""
    rng = np.random.default_rng([hidden, batch, steps])

    def uniform(limit, *shape):
        return rng.uniform(-limit, limit, shape).astype(np.float32)

    scale = hidden**-0.5
    return {
        "u": uniform(scale, 4 * hidden, hidden),
        "w": uniform(scale, 4 * hidden, hidden),
        "b": uniform(scale, 4 * hidden),
        "x": uniform(1, steps, batch, hidden),
        "dy": uniform(1, steps, batch, hidden),
    }


def results(data, train):
    """y, and in training du, dw, db and dx, of the data in f64."""
    u, w, b, x, dy = (data[name].astype(np.float64) for name in ("u", "w", "b", "x", "dy"))
    steps, batch, hidden = dy.shape
    gates = x @ u.T + b
    h = np.zeros((steps + 1, batch, hidden))
    s = np.zeros((steps + 1, batch, hidden))
    for t in range(steps):
        z = gates[t]
        z += h[t] @ w.T
        i, f, g, o = np.split(z, 4, axis=1)
        i[:], f[:], g[:], o[:] = logistic(i), logistic(f), np.tanh(g), logistic(o)
        s[t + 1] = f * s[t] + i * g
        h[t + 1] = o * np.tanh(s[t + 1])
    if not train:
        return {"y": h[1:]}

    dz = np.empty_like(gates)
    dh = np.zeros((batch, hidden))
    ds = np.zeros((batch, hidden))
    for t in reversed(range(steps)):
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
    rows = dz.reshape(steps * batch, -1)
    return {
        "y": h[1:],
        "du": rows.T @ x.reshape(steps * batch, -1),
        "dw": rows.T @ h[:-1].reshape(steps * batch, -1),
        "db": rows.sum(axis=0),
        "dx": dz @ u,
    }
