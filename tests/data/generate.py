"""Writes the files of this folder, cells as other libraries compute them; README.md says more."""

import argparse
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import save
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# Inputs, units, sequences, steps: sizes that fill no vector. Where there is much to add up
# there are few steps, so that what f32 may be off by stays small from end to end.
SHAPES = [(1, 1, 3, 9), (3, 7, 13, 3), (1, 17, 1, 9), (3, 35, 3, 5), (18, 7, 1, 1)]

OPSET = 22
IR_VERSION = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve().parent
    parser.add_argument("--out", type=Path, default=here, help="folder to write to")
    parser.add_argument("--only", help="write this file alone")
    arguments = parser.parse_args()
    out = arguments.out
    # One order of every sum, whatever the machine has.
    torch.set_num_threads(1)
    for name, case in FILES.items():
        if arguments.only not in (None, name):
            continue
        library = {"torch": "torch", "onnx": "onnx", "ort": "onnxruntime"}[name.split("_")[0]]
        tensors = {}
        for number, shape in enumerate(SHAPES):
            rng = np.random.default_rng([zlib.crc32(name.encode()), number])
            for tensor, values in case(Draw(rng), *shape).items():
                tensors[f"{number}/{tensor}"] = np.ascontiguousarray(values)
        # One entry: the order of several would change from run to run.
        made_by = f"{library} {version(library)}, numpy {version('numpy')}"
        data = save(tensors, {"made_by": made_by})
        (out / f"{name}.safetensors").write_bytes(data)
        print(f"{name}: {len(data)} bytes")


class Draw:
    """Numbers that f32 holds, drawn evenly."""

    def __init__(self, rng):
        self.rng = rng

    def __call__(self, limit, *shape):
        return self.rng.uniform(-limit, limit, shape).astype(np.float32)

    def weights(self, rows, columns):
        """A row's absolute values sum up to three quarters on average, and none is above 0.5."""
        return self(min(0.5, 1.5 / columns), rows, columns)

    def bias(self, *shape):
        """Whole multiples of 2⁻¹⁶: the sum of two of them is exact in f32, too."""
        return (np.round(self(0.5, *shape) * 65536) / 65536).astype(np.float32)

    def lengths(self, steps, batch):
        """In no order. PyTorch packs no sequence without a step."""
        return self.rng.integers(1, steps, batch, endpoint=True)


def widened(tensors):
    return {name: values.astype(np.float64) for name, values in tensors.items()}


def torch_case(make, has_cell=False, ragged=False):
    """Outputs, last states and all gradients of a PyTorch module in f64; where `ragged`, of packed
    sequences of different lengths. What stands after their ends is drawn, too: nothing reads it."""

    def case(draw, inputs, hidden, batch, steps):
        module = make(inputs, hidden).double()
        given = {}
        for name, parameter in module.named_parameters():
            shape = tuple(parameter.shape)
            given[name] = draw.bias(*shape) if len(shape) == 1 else draw.weights(*shape)
        outputs = getattr(module, "proj_size", 0) or hidden
        given |= {
            "x": draw(1, steps, batch, inputs),
            "h0": draw(1, batch, outputs),
            "dy": draw(1, steps, batch, outputs),
            "dh_last": draw(1, batch, outputs),
        }
        if has_cell:
            given |= {"c0": draw(2, batch, hidden), "dc_last": draw(1, batch, hidden)}
        lengths = draw.lengths(steps, batch) if ragged else None
        results = torch_results(module, given, has_cell, lengths)
        return given | results | ({"lengths": lengths} if ragged else {})

    return case


def torch_results(module, given, has_cell, lengths):
    """Of a loss that is the sum of dy y, dh_last h_n and dc_last c_n."""
    wide = {name: torch.from_numpy(values) for name, values in widened(given).items()}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(wide[name])
    leaves = {name: wide[name].requires_grad_() for name in ["x", "h0", "c0"] if name in wide}
    # A module has layers, of which there is one.
    x, h0 = leaves["x"], leaves["h0"][None]
    if lengths is not None:
        x = pack_padded_sequence(x, torch.from_numpy(lengths), enforce_sorted=False)
    if has_cell:
        y, (h_n, c_n) = module(x, (h0, leaves["c0"][None]))
    else:
        y, h_n = module(x, h0)
    if lengths is not None:
        # Zeros after the end of a sequence, and as many steps as there are in x.
        y, _ = pad_packed_sequence(y, total_length=len(leaves["x"]))
    loss = (wide["dy"] * y).sum() + (wide["dh_last"] * h_n[0]).sum()
    results = {"y": y, "h_n": h_n[0]}
    if has_cell:
        loss = loss + (wide["dc_last"] * c_n[0]).sum()
        results["c_n"] = c_n[0]
    loss.backward()
    leaves |= dict(module.named_parameters())
    results |= {f"grad.{name}": leaf.grad for name, leaf in leaves.items()}
    return {name: values.detach().numpy() for name, values in results.items()}


def torch_stack(make, has_cell=False):
    """Two layers in both directions, of packed sequences of different lengths, each of which begins
    from states of its own in each layer and direction. Gradients are of the sum of dy y, dh_last h_n
    and dc_last c_n."""

    def case(draw, inputs, hidden, batch, steps):
        hidden = min(hidden, 9)  # so that the files stay small
        module = make(inputs, hidden, num_layers=2, bidirectional=True).double()
        given = {}
        for name, parameter in module.named_parameters():
            shape = tuple(parameter.shape)
            given[name] = draw.bias(*shape) if len(shape) == 1 else draw.weights(*shape)
        given["x"] = draw(1, steps, batch, inputs)
        given["dy"] = draw(1, steps, batch, 2 * hidden)
        for state in ["h", "c"] if has_cell else ["h"]:
            given[f"{state}0"] = draw(1, 4, batch, hidden)
            given[f"d{state}_last"] = draw(1, 4, batch, hidden)
        lengths = draw.lengths(steps, batch)
        wide = {name: torch.from_numpy(values) for name, values in widened(given).items()}
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(wide[name])
        leaves = {name: wide[name].requires_grad_() for name in ["x", "h0", "c0"] if name in wide}
        x = pack_padded_sequence(leaves["x"], torch.from_numpy(lengths), enforce_sorted=False)
        if has_cell:
            y, (h_n, c_n) = module(x, (leaves["h0"], leaves["c0"]))
            last = {"h_n": h_n, "c_n": c_n}
        else:
            y, h_n = module(x, leaves["h0"])
            last = {"h_n": h_n}
        y, _ = pad_packed_sequence(y, total_length=steps)
        loss = (wide["dy"] * y).sum()
        for name, values in last.items():
            loss = loss + (wide[f"d{name[0]}_last"] * values).sum()
        loss.backward()
        leaves |= dict(module.named_parameters())
        results = {"y": y} | last | {f"grad.{name}": leaf.grad for name, leaf in leaves.items()}
        results = {name: values.detach().numpy() for name, values in results.items()}
        return given | results | {"lengths": lengths}

    return case


def cell_parameters(draw, kind, inputs, hidden):
    """Of a GRU or an LSTM, with one bias for a gate, and that of a GRU's product inside its reset gate."""
    gates = {"gru": 3, "lstm": 4}[kind]
    given = {
        "weight_ih": draw.weights(gates * hidden, inputs),
        "weight_hh": draw.weights(gates * hidden, hidden),
        "bias": draw.bias(gates * hidden),
    }
    return given | ({"bias_hn": draw.bias(hidden)} if kind == "gru" else {})


def prefixed(prefix, tensors):
    return {f"{prefix}.{name}": values for name, values in tensors.items()}


def both_biases(leaves, prefix):
    """The two that PyTorch has, made of the one of each gate."""
    bias = leaves[f"{prefix}.bias"]
    if f"{prefix}.bias_hn" not in leaves:
        return bias, torch.zeros_like(bias)
    inside = leaves[f"{prefix}.bias_hn"]
    return bias, torch.cat([torch.zeros(2 * len(inside)).double(), inside])


def encoded(leaves, kind, hidden, lengths, directions):
    """The outputs of one layer over the source, padded, and its last states."""
    names = {"": "encoder.0"} if directions == 1 else {
        "": "encoder.0.forward",
        "_reverse": "encoder.0.reverse",
    }
    source = leaves["source"]
    make = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[kind]
    module = make(source.shape[2], hidden, bidirectional=directions == 2).double()
    parameters = {}
    for suffix, name in names.items():
        parameters[f"weight_ih_l0{suffix}"] = leaves[f"{name}.weight_ih"]
        parameters[f"weight_hh_l0{suffix}"] = leaves[f"{name}.weight_hh"]
        ih, hh = both_biases(leaves, name)
        parameters |= {f"bias_ih_l0{suffix}": ih, f"bias_hh_l0{suffix}": hh}
    packed = pack_padded_sequence(source, torch.from_numpy(lengths), enforce_sorted=False)
    outputs, last = torch.func.functional_call(module, parameters, (packed,))
    outputs, _ = pad_packed_sequence(outputs, total_length=len(source))
    return outputs, last


def attended(scores, values, lengths):
    """The weights [B, S] and the context [B, V] of scores [S, B], steps after the end left out."""
    ends = torch.from_numpy(lengths)[None, :]
    scores = scores.masked_fill(torch.arange(len(scores))[:, None] >= ends, -torch.inf)
    weights = torch.softmax(scores, 0)
    return weights.T, (weights[:, :, None] * values).sum(0)


def torch_translator(parameters, program):
    """The outputs of an encoder-decoder network, the weights of its attention, and all gradients of the
    sum of dy y. Sources and targets have lengths of their own; what stands after their ends is drawn."""

    def case(draw, inputs, hidden, batch, steps):
        inputs, hidden, batch = min(inputs, 4), min(hidden, 7), min(batch, 5)
        given = parameters(draw, inputs, hidden)
        given["source"] = draw(1, steps + 2, batch, inputs)
        given["x"] = draw(1, steps, batch, inputs)
        given["dy"] = draw(1, steps, batch, 3)
        source_lengths = draw.lengths(steps + 2, batch)
        lengths = draw.lengths(steps, batch)
        leaves = {
            name: torch.from_numpy(values).requires_grad_()
            for name, values in widened(given).items()
            if name != "dy"
        }
        rows, weights = program(leaves, hidden, source_lengths)
        alive = torch.arange(steps)[:, None, None] < torch.from_numpy(lengths)[None, :, None]
        y = torch.where(alive, torch.stack(rows), 0.0)
        weights = torch.where(alive, torch.stack(weights), 0.0)
        (torch.from_numpy(given["dy"]).double() * y).sum().backward()
        results = {"y": y, "weights": weights}
        results |= {f"grad.{name}": leaf.grad for name, leaf in leaves.items()}
        results = {name: values.detach().numpy() for name, values in results.items()}
        return given | results | {"lengths": lengths, "source_lengths": source_lengths}

    return case


def bahdanau_parameters(draw, inputs, hidden):
    units, keys = min(hidden, 5), min(hidden, 6)
    given = prefixed("encoder.0.forward", cell_parameters(draw, "gru", inputs, units))
    given |= prefixed("encoder.0.reverse", cell_parameters(draw, "gru", inputs, units))
    given |= {
        "encoder.1.key.weight": draw.weights(keys, 2 * units),
        "encoder.1.key.bias": draw.bias(keys),
        "bridge.weight": draw.weights(hidden, 2 * units),
        "bridge.bias": draw.bias(hidden),
        "0.attention.query.weight": draw.weights(keys, hidden),
        "0.attention.query.bias": draw.bias(keys),
        "0.attention.vector": draw(1, keys),
    }
    given |= prefixed("0.block", cell_parameters(draw, "gru", inputs + 2 * units, hidden))
    return given | {"1.weight": draw.weights(3, hidden), "1.bias": draw.bias(3)}


def bahdanau(leaves, hidden, lengths):
    """Additive attention inside the step of a GRU, whose first state is a map of the encoder's last."""
    units = leaves["encoder.0.forward.weight_hh"].shape[1]
    values, last = encoded(leaves, "gru", units, lengths, directions=2)
    linear = torch.nn.functional.linear
    keys = linear(values, leaves["encoder.1.key.weight"], leaves["encoder.1.key.bias"])
    context = torch.cat([last[0], last[1]], 1)
    h = torch.tanh(linear(context, leaves["bridge.weight"], leaves["bridge.bias"]))
    rows, weights = [], []
    for x in leaves["x"]:
        of_query = [leaves[f"0.attention.query.{name}"] for name in ["weight", "bias"]]
        query = linear(h, *of_query)
        scores = torch.tanh(query[None] + keys) @ leaves["0.attention.vector"]
        alpha, context = attended(scores, values, lengths)
        ih, hh = leaves["0.block.weight_ih"], leaves["0.block.weight_hh"]
        read = torch.cat([x, context], 1)
        h = torch.gru_cell(read, h, ih, hh, *both_biases(leaves, "0.block"))
        rows.append(linear(h, leaves["1.weight"], leaves["1.bias"]))
        weights.append(alpha)
    return rows, weights


def luong_parameters(draw, inputs, hidden):
    given = prefixed("encoder.0", cell_parameters(draw, "lstm", inputs, hidden))
    given |= prefixed("1", cell_parameters(draw, "lstm", inputs + 2 * hidden, hidden))
    return given | {
        "2.query.weight": draw.weights(hidden, hidden),
        "2.query.bias": draw.bias(hidden),
        "3.weight": draw.weights(3, 2 * hidden),
        "3.bias": draw.bias(3),
    }


def luong(leaves, hidden, lengths):
    """General attention after an LSTM that begins with the encoder's last state, and reads it as an
    input in each step, too."""
    values, (h, c) = encoded(leaves, "lstm", hidden, lengths, directions=1)
    h, c = h[0], c[0]
    first = torch.cat([h, c], 1)
    linear = torch.nn.functional.linear
    rows, weights = [], []
    for x in leaves["x"]:
        ih, hh = leaves["1.weight_ih"], leaves["1.weight_hh"]
        read = torch.cat([x, first], 1)
        h, c = torch.lstm_cell(read, (h, c), ih, hh, *both_biases(leaves, "1"))
        query = linear(h, leaves["2.query.weight"], leaves["2.query.bias"])
        alpha, context = attended((query[None] * values).sum(2), values, lengths)
        read = torch.cat([context, h], 1)
        rows.append(torch.tanh(linear(read, leaves["3.weight"], leaves["3.bias"])))
        weights.append(alpha)
    return rows, weights


def onnx_model(operator, element, inputs, outputs, hidden, attributes):
    """A model of one node; an input without a name is left out."""

    def values(names):
        return [helper.make_tensor_value_info(name, element, None) for name in names if name]

    node = helper.make_node(operator, inputs, outputs, hidden_size=hidden, **attributes)
    graph = helper.make_graph([node], operator, values(inputs), values(outputs))
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def evaluated(model, given):
    """By ONNX's reference evaluator, which computes in the type of its inputs: f64."""
    return ReferenceEvaluator(model).run(None, widened(given))


def runtime(model, given):
    """By ONNX Runtime in f32, which is all that its LSTM has."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, given)


def onnx_case(operator, run, peepholes=False, **attributes):
    """Outputs and last states of an ONNX operator; the standard has no gradients of it."""
    gates = {"LSTM": 4, "GRU": 3}[operator]
    element = TensorProto.DOUBLE if run is evaluated else TensorProto.FLOAT

    def case(draw, inputs, hidden, batch, steps):
        given = {
            "X": draw(1, steps, batch, inputs),
            "W": draw.weights(gates * hidden, inputs)[None],
            "R": draw.weights(gates * hidden, hidden)[None],
            "B": draw.bias(1, 2 * gates * hidden),
            "initial_h": draw(1, 1, batch, hidden),
        }
        names, outputs = ["X", "W", "R", "B", "", "initial_h"], ["Y", "Y_h"]
        if operator == "LSTM":
            given["initial_c"] = draw(2, 1, batch, hidden)
            names.append("initial_c")
            outputs.append("Y_c")
        if peepholes:
            given["P"] = draw(0.5, 1, 3 * hidden)
            names.append("P")
        model = onnx_model(operator, element, names, outputs, hidden, attributes)
        results = dict(zip(outputs, run(model, given), strict=True))
        return given | widened(results)

    return case


def torch_losses(draw, outputs, classes, batch, steps):
    """Values and gradients of PyTorch's losses, of all reductions; outputs are [rows, ·]."""
    rows, classes = batch * steps, classes + 2
    given, results = {}, {}

    def run(name, loss, y):
        """Of each reduction: loss(reduction, y)."""
        given[f"{name}.y"] = y
        for reduction in ["sum", "mean"]:
            leaf = torch.from_numpy(y.astype(np.float64)).requires_grad_()
            value = loss(reduction, leaf)
            value.backward()
            results[f"{name}.{reduction}"] = value.detach().numpy().reshape(1)
            results[f"{name}.{reduction}.grad"] = leaf.grad.numpy()

    def wide(name, values):
        given[name] = values
        return torch.from_numpy(values.astype(np.float64))

    functional = torch.nn.functional
    y = draw(3, rows, classes)
    given["classes"] = draw.rng.integers(0, classes, rows)
    given["class_weights"] = np.abs(draw(2, classes))
    given["smoothing"] = np.abs(draw(1, 1))
    of_classes = torch.from_numpy(given["classes"])
    smoothing = float(given["smoothing"][0])
    weights = torch.from_numpy(given["class_weights"].astype(np.float64))

    def entropy(**options):
        return lambda reduction, y: functional.cross_entropy(
            y, of_classes, reduction=reduction, **options
        )

    run("smoothed", entropy(label_smoothing=smoothing), y)
    run("weighted", entropy(weight=weights), y)
    run("both", entropy(weight=weights, label_smoothing=smoothing), y)

    targets = wide("shares", np.abs(draw(1, rows, outputs)))
    given["positive_weight"] = np.abs(draw(3, 1))
    weight = torch.tensor(float(given["positive_weight"][0]), dtype=torch.float64)
    y = draw(6, rows, outputs)
    logistic = functional.binary_cross_entropy_with_logits
    run("logistic", lambda reduction, y: logistic(y, targets, reduction=reduction), y)
    run(
        "logistic_weighted",
        lambda reduction, y: logistic(y, targets, pos_weight=weight, reduction=reduction),
        y,
    )

    values = wide("values", draw(2, rows, outputs))
    given["delta"] = np.abs(draw(2, 1))
    delta = float(given["delta"][0])
    y = draw(3, rows, outputs)
    run(
        "huber",
        lambda reduction, y: functional.huber_loss(y, values, reduction=reduction, delta=delta),
        y,
    )
    run("absolute", lambda reduction, y: functional.l1_loss(y, values, reduction=reduction), y)
    run("squared", lambda reduction, y: functional.mse_loss(y, values, reduction=reduction), y)

    def gaussian(reduction, y):
        mean, log_variance = y[:, :outputs], y[:, outputs:]
        # PyTorch's own bound of the variance is far below these.
        return functional.gaussian_nll_loss(
            mean, values, log_variance.exp(), full=True, eps=1e-12, reduction=reduction
        )

    run("gaussian", gaussian, draw(2, rows, 2 * outputs))
    return given | results


def torch_mixture(draw, outputs, components, batch, steps):
    """The density of a mixture of Gaussians in the plane, by torch.distributions."""
    del outputs
    rows = batch * steps
    y, points = draw(1, rows, 6 * components + 1), draw(2, rows, 3)
    points[:, 2] = draw.rng.integers(0, 2, rows)
    leaf = torch.from_numpy(y.astype(np.float64)).requires_grad_()
    wide = torch.from_numpy(points.astype(np.float64))
    blocks = leaf[:, : 6 * components].reshape(rows, 6, components)
    weights, mean_x, mean_y, log_x, log_y, tanh = blocks.unbind(1)
    deviation_x, deviation_y, correlation = log_x.exp(), log_y.exp(), tanh.tanh()
    # The Cholesky factor of the covariance.
    below = deviation_y * (1 - correlation**2).sqrt()
    zero = torch.zeros_like(below)
    factor = torch.stack([deviation_x, zero, correlation * deviation_y, below], -1)
    gaussians = torch.distributions.MultivariateNormal(
        torch.stack([mean_x, mean_y], -1),
        scale_tril=factor.reshape(rows, components, 2, 2),
    )
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=weights), gaussians
    )
    end = torch.distributions.Bernoulli(logits=leaf[:, -1])
    value = -(mixture.log_prob(wide[:, :2]) + end.log_prob(wide[:, 2])).sum()
    value.backward()
    results = {"sum": value.detach().numpy().reshape(1), "grad": leaf.grad.numpy()}
    return {"y": y, "points": points} | results


def torch_ctc(draw, labels, blank, batch, steps):
    """Sequences of different lengths, among them one without labels and, at the end, one whose target
    has no path."""
    classes = labels + 2
    blank %= classes
    steps = steps + 3
    lengths = draw.rng.integers(2, steps, batch, endpoint=True)
    counts = np.minimum(draw.rng.integers(0, steps, batch), lengths // 2)
    if batch > 2:
        counts[0], lengths[-1], counts[-1] = 0, 2, 3
    symbols = [symbol for symbol in range(classes) if symbol != blank]
    drawn = draw.rng.choice(symbols, counts.sum())
    y = draw(3, steps, batch, classes)
    leaf = torch.from_numpy(y.astype(np.float64)).requires_grad_()
    given = {
        "y": y,
        "lengths": lengths,
        "labels": drawn.astype(np.int64),
        "label_lengths": counts.astype(np.int64),
        "blank": np.array([blank], dtype=np.int64),
    }
    results = {}
    for reduction in ["sum", "mean"]:
        leaf.grad = None
        value = torch.nn.functional.ctc_loss(
            leaf.log_softmax(-1),
            torch.from_numpy(given["labels"]),
            torch.from_numpy(lengths),
            torch.from_numpy(given["label_lengths"]),
            blank=blank,
            reduction=reduction,
            zero_infinity=True,
        )
        value.backward()
        results[reduction] = value.detach().numpy().reshape(1)
        results[f"{reduction}.grad"] = leaf.grad.numpy()
    return given | results


def projected(inputs, hidden):
    return torch.nn.LSTM(inputs, hidden, proj_size=hidden // 2)


def long_enough(case):
    """PyTorch projects to fewer features than there are units, which one unit does not allow."""
    return lambda draw, inputs, hidden, batch, steps: case(
        draw, inputs, max(hidden, 2), batch, steps
    )


FILES = {
    "torch_rnn_tanh": torch_case(torch.nn.RNN),
    "torch_rnn_relu": torch_case(lambda i, h: torch.nn.RNN(i, h, nonlinearity="relu")),
    "torch_lstm": torch_case(torch.nn.LSTM, has_cell=True),
    "torch_lstm_projected": long_enough(torch_case(projected, has_cell=True)),
    "torch_gru": torch_case(torch.nn.GRU),
    "torch_rnn_tanh_ragged": torch_case(torch.nn.RNN, ragged=True),
    "torch_lstm_ragged": torch_case(torch.nn.LSTM, has_cell=True, ragged=True),
    "torch_gru_ragged": torch_case(torch.nn.GRU, ragged=True),
    "torch_lstm_stack": torch_stack(torch.nn.LSTM, has_cell=True),
    "torch_gru_stack": torch_stack(torch.nn.GRU),
    "torch_bahdanau": torch_translator(bahdanau_parameters, bahdanau),
    "torch_luong": torch_translator(luong_parameters, luong),
    "torch_losses": torch_losses,
    "torch_mixture": torch_mixture,
    "torch_ctc": torch_ctc,
    "onnx_lstm_peepholes": onnx_case("LSTM", evaluated, peepholes=True),
    "onnx_gru_before": onnx_case("GRU", evaluated, linear_before_reset=0),
    "onnx_gru_after": onnx_case("GRU", evaluated, linear_before_reset=1),
    "ort_lstm_coupled": onnx_case("LSTM", runtime, input_forget=1),
    "ort_lstm_coupled_peepholes": onnx_case("LSTM", runtime, peepholes=True, input_forget=1),
}

if __name__ == "__main__":
    main()
