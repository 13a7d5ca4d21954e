"""ONNX Runtime: a model of one LSTM, GRU or RNN node, or of one for each layer of a network. It
infers only."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from protocol import Unsupported, serve

# By cell the node, and its gates as places in this project's order: ONNX has i, o, f, c
# and z, r, h.
NODES = {"lstm": ("LSTM", [0, 3, 1, 2]), "gru": ("GRU", [1, 0, 2]), "vanilla": ("RNN", [0])}


def parts(part):
    """The weights and biases of a layer in one direction, each with a first axis for the directions."""
    order = NODES[part.cell][1]

    def gates(values):
        blocks = np.split(values, len(order))
        return np.concatenate([blocks[place] for place in order])[np.newaxis]

    # ONNX has two vectors of biases.
    bias = np.concatenate([gates(part.b()), gates(part.recurrent_b())], axis=1)
    return {"u": gates(part.u()), "w": gates(part.w()), "b": bias}


def attributes(problem):
    """Of the nodes that compute the layers."""
    options = {"hidden_size": problem.hidden}
    if problem.cell == "gru":
        options["linear_before_reset"] = 1
    return options


def model(problem):
    """The serialised model, x to y `[T, 1, B, H]`, and from lengths, if there are, also to h_n
    `[1, B, H]`."""
    node, hidden = NODES[problem.cell][0], problem.hidden
    x = [problem.steps, problem.batch, problem.input]
    y = [problem.steps, 1, problem.batch, hidden]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)]
    read, written = ["x", "u", "w", "b"], ["y"]
    if problem.lengths:
        read.append("lengths")
        written.append("h_n")
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [problem.batch]))
        h_n = [1, problem.batch, hidden]
        outputs.append(helper.make_tensor_value_info("h_n", TensorProto.FLOAT, h_n))
    graph = helper.make_graph(
        [helper.make_node(node, read, written, **attributes(problem))],
        problem.cell,
        inputs,
        outputs,
        [numpy_helper.from_array(values, name) for name, values in parts(problem).items()],
    )
    return serialised(graph)


def serialised(graph):
    opset = helper.make_opsetid("", 14)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return made.SerializeToString()


def network(problem):
    """The serialised model of a network, x to y `[T, B, D H]` with D directions: a node for each
    layer, and what joins the outputs of its directions."""
    directions, width = problem.directions, problem.width
    x, y = [problem.steps, problem.batch, problem.input], [problem.steps, problem.batch, width]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)]
    if problem.lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [problem.batch]))
    weights = {"joined": np.array(y)}
    nodes, read = [], "x"
    for layer, both in enumerate(problem.parameters()):
        names = {name: f"{name}{layer}" for name in ("u", "w", "b", "each", "beside", "y")}
        of_directions = [parts(part) for part in both]
        for name in ("u", "w", "b"):
            values = [values[name] for values in of_directions]
            weights[names[name]] = np.concatenate(values)
        given = [read, names["u"], names["w"], names["b"], *(["lengths"] if problem.lengths else [])]
        written = "y" if layer == problem.layers - 1 else names["y"]
        options = attributes(problem) | {"direction": ["forward", "bidirectional"][directions - 1]}
        nodes.append(helper.make_node(NODES[problem.cell][0], given, [names["each"]], **options))
        read = names["each"]
        if directions == 2:
            read = names["beside"]
            nodes.append(
                helper.make_node("Transpose", [names["each"]], [read], perm=[0, 2, 1, 3])
            )
        nodes.append(helper.make_node("Reshape", [read, "joined"], [written]))
        read = written
    graph = helper.make_graph(
        nodes,
        problem.cell,
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return serialised(graph)


class OnnxRuntime:
    def __init__(self, problem):
        shapes = {"y": [problem.steps, 1, problem.batch, problem.hidden]}
        if problem.lengths:
            shapes["h_n"] = [1, problem.batch, problem.hidden]
        self.start(problem, model, shapes)

    def start(self, problem, model, shapes):
        """A session of the model that `model` makes of the problem, with outputs of these shapes."""
        if problem.mode == "train":
            raise Unsupported("infers only")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = problem.threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            model(problem), options, providers=["CPUExecutionProvider"]
        )
        # Bound buffers, so that no pass copies or allocates its input and output.
        inputs = {"x": problem.x()}
        if problem.lengths:
            inputs["lengths"] = np.array(problem.lengths, np.int32)
        of_shape = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self.inputs = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(values)
            for name, values in inputs.items()
        }
        self.outputs = {name: of_shape(shape, np.float32) for name, shape in shapes.items()}
        self.binding = self.session.io_binding()
        for name, values in self.inputs.items():
            self.binding.bind_ortvalue_input(name, values)
        for name, values in self.outputs.items():
            self.binding.bind_ortvalue_output(name, values)

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def results(self):
        return {name: values.numpy() for name, values in self.outputs.items()}


class Network(OnnxRuntime):
    def __init__(self, problem):
        if problem.output:
            raise Unsupported("has no projection")
        self.start(problem, network, {"y": [problem.steps, problem.batch, problem.width]})


serve(OnnxRuntime, Network)
