"""The cells that are compared: their names, and how many gates each has."""

TITLES = {"lstm": "LSTM", "gru": "GRU", "vanilla": "Vanilla"}
GATES = {"lstm": 4, "gru": 3, "vanilla": 1}
