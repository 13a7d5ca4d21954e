"""ONNX Runtime: a model of one LSTM, GRU or RNN node. It infers only."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from protocol import Unsupported, serve

# By cell the node, and its gates as places in this project's order: ONNX has i, o, f, c
# and z, r, h.
NODES = {"lstm": ("LSTM", [0, 3, 1, 2]), "gru": ("GRU", [1, 0, 2]), "vanilla": ("RNN", [0])}


def model(problem):
    """The serialised model, x to y `[T, 1, B, H]`, and from lengths, if there are, also to h_n
    `[1, B, H]`."""
    node, order = NODES[problem.cell]
    hidden = problem.hidden

    def gates(values):
        parts = np.split(values, len(order))
        return np.concatenate([parts[place] for place in order])[np.newaxis]

    # ONNX has two vectors of biases.
    bias = np.concatenate([gates(problem.b()), gates(problem.recurrent_b())], axis=1)
    weights = {"u": gates(problem.u()), "w": gates(problem.w()), "b": bias}
    options = {"hidden_size": hidden}
    if node == "GRU":
        options["linear_before_reset"] = 1
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
        [helper.make_node(node, read, written, **options)],
        problem.cell,
        inputs,
        outputs,
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    opset = helper.make_opsetid("", 14)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return made.SerializeToString()


class OnnxRuntime:
    def __init__(self, problem):
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
        shapes = {"y": [problem.steps, 1, problem.batch, problem.hidden]}
        if problem.lengths:
            inputs["lengths"] = np.array(problem.lengths, np.int32)
            shapes["h_n"] = [1, problem.batch, problem.hidden]
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


serve(OnnxRuntime)
