// oneDNN's recurrent primitives, called directly: answers requests, a line of JSON each, as
// README.md has them.

#include <oneapi/dnnl/dnnl.hpp>

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

using dnnl::memory;
using Dims = memory::dims;
using Tag = memory::format_tag;
using Arguments = std::unordered_map<int, memory>;

namespace {

constexpr auto f32 = memory::data_type::f32;

memory::desc plain(const Dims &dims, Tag tag) { return {dims, f32, tag}; }

// The same values in the layout that a primitive likes best.
memory::desc any(const Dims &dims) { return {dims, f32, Tag::any}; }

// The value of a key in a line of flat JSON without escapes.
std::string field(const std::string &line, const std::string &key) {
    const auto at = line.find("\"" + key + "\"");
    if (at == std::string::npos) throw std::runtime_error("no " + key);
    const auto start = line.find_first_not_of(" :", at + key.size() + 2);
    if (line[start] == '"') return line.substr(start + 1, line.find('"', start + 1) - start - 1);
    return line.substr(start, line.find_first_of(",}", start) - start);
}

struct Request {
    std::string line;
    std::string text(const std::string &key) const { return field(line, key); }
    memory::dim count(const std::string &key) const { return std::stoll(field(line, key)); }
    bool has(const std::string &key) const {
        return line.find("\"" + key + "\"") != std::string::npos;
    }
};

void read(const std::string &path, float *to, std::streamsize bytes) {
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char *>(to), bytes);
    if (!file || file.peek() != EOF) throw std::runtime_error(path + " has another size");
}

void write(const std::string &path, const float *from, std::streamsize bytes) {
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char *>(from), bytes);
    if (!file) throw std::runtime_error("cannot write " + path);
}

float *values(const memory &of) { return static_cast<float *>(of.get_data_handle()); }

std::streamsize bytes(const memory &of) { return of.get_desc().get_size(); }

void read(const std::string &path, const memory &to) { read(path, values(to), bytes(to)); }

void write(const std::string &path, const memory &from) {
    write(path, values(from), bytes(from));
}

// A tensor in its plain layout beside the same in a primitive's.
class Reordered {
public:
    Reordered(const memory &from, const memory &to) : from_(from), to_(to), reorder_(from, to) {}
    void run(dnnl::stream &stream) { reorder_.execute(stream, from_, to_); }

private:
    memory from_, to_;
    dnnl::reorder reorder_;
};

// The tensors that a cell's primitives are made for. No state where it is left out.
struct Tensors {
    memory::desc x, state, u, w, b, y;
};

// A cell's primitives, still without memory; no backward one where it infers only.
struct Primitives {
    dnnl::rnn_primitive_desc_base forward, backward;
};

constexpr auto direction = dnnl::rnn_direction::unidirectional_left2right;

// `Forward` and `Backward` of a cell that has a state but h, or of one that has not; what a
// cell takes besides, its activation, comes before the direction.
template <typename Forward, typename Backward, bool has_cell_state, typename... Besides>
Primitives primitives(
    const dnnl::engine &engine, bool train, const Tensors &of, Besides... besides) {
    const auto kind
        = train ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    const auto back = dnnl::prop_kind::backward;
    const auto any_u = any(of.u.get_dims()), any_w = any(of.w.get_dims());
    const auto &[x, state, u, w, b, y] = of;
    const memory::desc none;
    if constexpr (has_cell_state) {
        const typename Forward::primitive_desc forward(engine, kind, besides..., direction, x,
            state, state, any_u, any_w, b, y, none, none);
        if (!train) return {forward, {}};
        return {forward,
            typename Backward::primitive_desc(engine, back, besides..., direction, x, state, state,
                any_u, any_w, b, y, none, none, x, state, state, any_u, any_w, b, y, none, none,
                forward)};
    } else {
        const typename Forward::primitive_desc forward(
            engine, kind, besides..., direction, x, state, any_u, any_w, b, y, none);
        if (!train) return {forward, {}};
        return {forward,
            typename Backward::primitive_desc(engine, back, besides..., direction, x, state, any_u,
                any_w, b, y, none, x, state, any_u, any_w, b, y, none, forward)};
    }
}

enum class Cell { lstm, gru, vanilla };

Cell cell_of(const Request &request) {
    const auto name = request.text("cell");
    if (name == "lstm") return Cell::lstm;
    if (name == "gru") return Cell::gru;
    if (name == "vanilla") return Cell::vanilla;
    throw std::runtime_error("unknown cell " + name);
}

Primitives primitives(
    Cell cell, const dnnl::engine &engine, bool train, const Tensors &tensors) {
    switch (cell) {
        case Cell::lstm:
            return primitives<dnnl::lstm_forward, dnnl::lstm_backward, true>(
                engine, train, tensors);
        case Cell::gru:
            return primitives<dnnl::lbr_gru_forward, dnnl::lbr_gru_backward, false>(
                engine, train, tensors);
        default:
            return primitives<dnnl::vanilla_rnn_forward, dnnl::vanilla_rnn_backward, false>(
                engine, train, tensors, dnnl::algorithm::eltwise_tanh);
    }
}

class Problem {
public:
    explicit Problem(const Request &request)
        : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_), cell_(cell_of(request)) {
        const auto i = request.count("input"), h = request.count("hidden");
        const auto b = request.count("batch"), t = request.count("steps");
        const auto dir = request.text("dir") + "/";
        const memory::dim gates = cell_ == Cell::lstm ? 4 : cell_ == Cell::gru ? 3 : 1;
        const memory::dim biases = cell_ == Cell::gru ? 4 : gates;
        train_ = request.text("mode") == "train";

        u_ = make(plain({1, 1, i, gates, h}, Tag::ldgoi));
        w_ = make(plain({1, 1, h, gates, h}, Tag::ldgoi));
        b_ = make(plain({1, 1, biases, h}, Tag::ldgo));
        x_ = make(plain({t, b, i}, Tag::tnc));
        y_ = make(plain({t, b, h}, Tag::tnc));
        read_parameters(dir);
        read(dir + "x.bin", x_);

        // Left out, initial states are zero. In training they are given: without them
        // oneDNN 3.2 has wrong gradients of W.
        const auto state = train_ ? plain({1, 1, b, h}, Tag::ldnc) : memory::desc();
        const auto made = primitives(cell_, engine_, train_,
            {x_.get_desc(), state, u_.get_desc(), w_.get_desc(), b_.get_desc(), y_.get_desc()});
        prepare_forward(made.forward);
        if (train_) {
            dy_ = make(y_.get_desc());
            read(dir + "dy.bin", dy_);
            prepare_backward(made, state);
        } else {
            pack();
        }
    }

    void pass() {
        if (train_) pack();
        forward_.execute(stream_, arguments_);
        if (train_) {
            // The primitive adds to them.
            for (auto &sum : sums_) zero(sum);
            backward_.execute(stream_, back_arguments_);
            for (auto &gradient : unpacked_) gradient.run(stream_);
        }
        stream_.wait();
    }

    void write_results(const std::string &dir) const {
        write(dir + "/y.bin", y_);
        if (!train_) return;
        write(dir + "/dx.bin", dx_);
        // In the order of the files, and back again for the next pass.
        for (const auto *gradient : {&du_, &dw_, &db_}) swap_gates(*gradient);
        write(dir + "/du.bin", du_);
        write(dir + "/dw.bin", dw_);
        const auto of_b = bytes(db_) - bytes_of_b_hn();
        write(dir + "/db.bin", values(db_), of_b);
        if (bytes_of_b_hn()) write(dir + "/db_hn.bin", values(db_) + of_b / 4, bytes_of_b_hn());
        for (const auto *gradient : {&du_, &dw_, &db_}) swap_gates(*gradient);
    }

private:
    void read_parameters(const std::string &dir) {
        read(dir + "u.bin", u_);
        read(dir + "w.bin", w_);
        const auto of_b = bytes(b_) - bytes_of_b_hn();
        read(dir + "b.bin", values(b_), of_b);
        if (bytes_of_b_hn()) read(dir + "b_hn.bin", values(b_) + of_b / 4, bytes_of_b_hn());
        for (const auto *parameters : {&u_, &w_, &b_}) swap_gates(*parameters);
    }

    // The GRU's b_hn is the fourth of its vectors of biases here.
    std::streamsize bytes_of_b_hn() const { return cell_ == Cell::gru ? bytes(b_) / 4 : 0; }

    // oneDNN has the GRU's first two gates the other way round.
    void swap_gates(const memory &parameters) const {
        if (cell_ != Cell::gru) return;
        // Of [1, 1, I, 3, H], or of biases [1, 1, 4, H].
        const auto dims = parameters.get_desc().get_dims();
        const auto len = bytes(parameters) / 4 / dims[dims.size() - 2];
        auto *first = values(parameters);
        std::swap_ranges(first, first + len, first + len);
    }

    void prepare_forward(const dnnl::rnn_primitive_desc_base &desc) {
        forward_ = dnnl::primitive(desc);
        arguments_ = {{DNNL_ARG_SRC_LAYER, x_}, {DNNL_ARG_BIAS, b_}, {DNNL_ARG_DST_LAYER, y_},
            {DNNL_ARG_WEIGHTS_LAYER, packed(u_, desc.weights_layer_desc())},
            {DNNL_ARG_WEIGHTS_ITER, packed(w_, desc.weights_iter_desc())}};
    }

    void prepare_backward(const Primitives &made, const memory::desc &state) {
        const auto &back = made.backward;
        backward_ = dnnl::primitive(back);
        dx_ = make(x_.get_desc());
        du_ = make(u_.get_desc());
        dw_ = make(w_.get_desc());
        db_ = make(b_.get_desc());
        std::vector<std::pair<int, int>> states = {{DNNL_ARG_SRC_ITER, DNNL_ARG_DIFF_SRC_ITER}};
        if (cell_ == Cell::lstm)
            states.emplace_back(DNNL_ARG_SRC_ITER_C, DNNL_ARG_DIFF_SRC_ITER_C);
        for (const auto &[initial, gradient] : states) {
            arguments_[initial] = make(state);
            zero(arguments_[initial]);
            back_arguments_[gradient] = make(state);
        }
        arguments_[DNNL_ARG_WORKSPACE] = make(made.forward.workspace_desc());
        back_arguments_.insert(arguments_.begin(), arguments_.end());
        back_arguments_[DNNL_ARG_WEIGHTS_LAYER] = packed(u_, back.weights_layer_desc());
        back_arguments_[DNNL_ARG_WEIGHTS_ITER] = packed(w_, back.weights_iter_desc());
        back_arguments_[DNNL_ARG_DIFF_DST_LAYER] = dy_;
        back_arguments_[DNNL_ARG_DIFF_SRC_LAYER] = dx_;
        back_arguments_[DNNL_ARG_DIFF_BIAS] = db_;
        back_arguments_[DNNL_ARG_DIFF_WEIGHTS_LAYER] = sums(du_, back.diff_weights_layer_desc());
        back_arguments_[DNNL_ARG_DIFF_WEIGHTS_ITER] = sums(dw_, back.diff_weights_iter_desc());
        sums_.push_back(db_);
    }

    memory make(const memory::desc &desc) const { return memory(desc, engine_); }

    // Weights in a primitive's layout, filled from the plain ones when all are packed.
    memory packed(const memory &from, const memory::desc &desc) {
        auto to = make(desc);
        packed_.emplace_back(from, to);
        return to;
    }

    // A gradient in a primitive's layout, brought to the plain one after a pass.
    memory sums(const memory &to, const memory::desc &desc) {
        if (desc == to.get_desc()) {
            sums_.push_back(to);
            return to;
        }
        auto from = make(desc);
        sums_.push_back(from);
        unpacked_.emplace_back(from, to);
        return from;
    }

    void pack() {
        for (auto &weights : packed_) weights.run(stream_);
    }

    static void zero(const memory &sums) {
        auto *to = values(sums);
        const auto len = static_cast<std::ptrdiff_t>(bytes(sums) / 4);
#pragma omp parallel for simd if (len > 1 << 16)
        for (std::ptrdiff_t at = 0; at < len; at++) to[at] = 0;
    }

    dnnl::engine engine_;
    dnnl::stream stream_;
    Cell cell_;
    bool train_;
    memory u_, w_, b_, x_, y_, dy_, du_, dw_, db_, dx_;
    dnnl::primitive forward_, backward_;
    Arguments arguments_, back_arguments_;
    std::vector<Reordered> packed_, unpacked_;
    std::vector<memory> sums_;
};

// Passes for at least so many seconds. The first warms the caches up and is not
// counted, unless it takes so long that it has to do.
std::string round(Problem &problem, double seconds) {
    using Clock = std::chrono::steady_clock;
    const auto since = [](Clock::time_point start) {
        return std::chrono::duration<double>(Clock::now() - start).count();
    };
    const auto start = Clock::now();
    problem.pass();
    const double first = since(start);
    // So many passes between two looks at the clock that looking takes no time.
    const auto calls = static_cast<long>(std::max(1.0, std::ceil(0.002 / first)));
    std::vector<double> samples;
    if (first >= 2) samples.push_back(first);
    while (samples.empty() || since(start) < first + seconds) {
        const auto sample = Clock::now();
        for (long call = 0; call < calls; call++) problem.pass();
        samples.push_back(since(sample) / static_cast<double>(calls));
    }
    std::sort(samples.begin(), samples.end());
    return "{\"best\": " + std::to_string(samples[0] * 1e6) + "e-6, \"median\": "
        + std::to_string(samples[samples.size() / 2] * 1e6) + "e-6, \"passes\": "
        + std::to_string(static_cast<long>(samples.size()) * calls) + "}";
}

std::string answer(const Request &request, std::unique_ptr<Problem> &problem) {
    const auto what = request.text("do");
    if (what == "setup") {
        // The last problem's memory first.
        problem.reset();
        if (request.has("lengths")) return "{\"unsupported\": \"has one length for all\"}";
        omp_set_num_threads(static_cast<int>(request.count("threads")));
        try {
            problem = std::make_unique<Problem>(request);
        } catch (const dnnl::error &error) {
            if (error.status != dnnl_unimplemented) throw;
            return std::string("{\"unsupported\": \"") + error.what() + "\"}";
        }
    } else if (what == "free") {
        problem.reset();
    } else if (!problem) {
        throw std::runtime_error("no setup yet");
    } else if (what == "check") {
        problem->pass();
        problem->write_results(request.text("dir"));
    } else if (what == "round") {
        return round(*problem, std::stod(request.text("seconds")));
    } else {
        throw std::runtime_error("unknown request " + what);
    }
    return "{\"ok\": true}";
}

} // namespace

int main() {
    std::unique_ptr<Problem> problem;
    Request request;
    while (std::getline(std::cin, request.line)) {
        try {
            std::cout << answer(request, problem) << std::endl;
        } catch (const std::exception &error) {
            std::cout << "{\"error\": \"" << error.what() << "\"}" << std::endl;
        }
    }
}
