// oneDNN's LSTM primitives, called directly: answers requests, a line of JSON each, as
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
};

void read(const std::string &path, memory &to) {
    std::ifstream file(path, std::ios::binary);
    file.read(static_cast<char *>(to.get_data_handle()), to.get_desc().get_size());
    if (!file || file.peek() != EOF) throw std::runtime_error(path + " has another size");
}

void write(const std::string &path, const memory &from) {
    std::ofstream file(path, std::ios::binary);
    file.write(static_cast<const char *>(from.get_data_handle()), from.get_desc().get_size());
    if (!file) throw std::runtime_error("cannot write " + path);
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

class Problem {
public:
    explicit Problem(const Request &request)
        : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
        const auto i = request.count("input"), h = request.count("hidden");
        const auto b = request.count("batch"), t = request.count("steps");
        train_ = request.text("mode") == "train";

        u_ = make(plain({1, 1, i, 4, h}, Tag::ldgoi));
        w_ = make(plain({1, 1, h, 4, h}, Tag::ldgoi));
        b_ = make(plain({1, 1, 4, h}, Tag::ldgo));
        x_ = make(plain({t, b, i}, Tag::tnc));
        y_ = make(plain({t, b, h}, Tag::tnc));
        const auto dir = request.text("dir") + "/";
        read(dir + "u.bin", u_);
        read(dir + "w.bin", w_);
        read(dir + "b.bin", b_);
        read(dir + "x.bin", x_);

        const auto kind
            = train_ ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
        const auto forward = dnnl::rnn_direction::unidirectional_left2right;
        const memory::desc none;
        // Left out, initial states are zero. In training they are given: without them
        // oneDNN 3.2 has wrong gradients of W.
        const auto state = train_ ? plain({1, 1, b, h}, Tag::ldnc) : none;
        const auto any_u = any({1, 1, i, 4, h}), any_w = any({1, 1, h, 4, h});
        const dnnl::lstm_forward::primitive_desc desc(engine_, kind, forward, x_.get_desc(), state,
            state, any_u, any_w, b_.get_desc(), y_.get_desc(), none, none);
        forward_ = dnnl::lstm_forward(desc);
        arguments_ = {{DNNL_ARG_SRC_LAYER, x_}, {DNNL_ARG_BIAS, b_}, {DNNL_ARG_DST_LAYER, y_},
            {DNNL_ARG_WEIGHTS_LAYER, packed(u_, desc.weights_layer_desc())},
            {DNNL_ARG_WEIGHTS_ITER, packed(w_, desc.weights_iter_desc())}};
        if (!train_) {
            pack();
            return;
        }

        dy_ = make(y_.get_desc());
        dx_ = make(x_.get_desc());
        du_ = make(u_.get_desc());
        dw_ = make(w_.get_desc());
        db_ = make(b_.get_desc());
        read(dir + "dy.bin", dy_);
        const dnnl::lstm_backward::primitive_desc back(engine_, dnnl::prop_kind::backward, forward,
            x_.get_desc(), state, state, any_u, any_w, b_.get_desc(), y_.get_desc(), none, none,
            dx_.get_desc(), state, state, any_u, any_w, db_.get_desc(), dy_.get_desc(), none, none,
            desc);
        backward_ = dnnl::lstm_backward(back);
        for (const int argument : {DNNL_ARG_SRC_ITER, DNNL_ARG_SRC_ITER_C}) {
            arguments_[argument] = make(state);
            zero(arguments_[argument]);
        }
        arguments_[DNNL_ARG_WORKSPACE] = make(desc.workspace_desc());
        back_arguments_ = arguments_;
        back_arguments_[DNNL_ARG_WEIGHTS_LAYER] = packed(u_, back.weights_layer_desc());
        back_arguments_[DNNL_ARG_WEIGHTS_ITER] = packed(w_, back.weights_iter_desc());
        back_arguments_[DNNL_ARG_DIFF_SRC_ITER] = make(state);
        back_arguments_[DNNL_ARG_DIFF_SRC_ITER_C] = make(state);
        back_arguments_[DNNL_ARG_DIFF_DST_LAYER] = dy_;
        back_arguments_[DNNL_ARG_DIFF_SRC_LAYER] = dx_;
        back_arguments_[DNNL_ARG_DIFF_BIAS] = db_;
        back_arguments_[DNNL_ARG_DIFF_WEIGHTS_LAYER] = sums(du_, back.diff_weights_layer_desc());
        back_arguments_[DNNL_ARG_DIFF_WEIGHTS_ITER] = sums(dw_, back.diff_weights_iter_desc());
        sums_.push_back(db_);
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
        write(dir + "/du.bin", du_);
        write(dir + "/dw.bin", dw_);
        write(dir + "/db.bin", db_);
        write(dir + "/dx.bin", dx_);
    }

private:
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

    static void zero(memory &values) {
        auto *to = static_cast<float *>(values.get_data_handle());
        const auto len = static_cast<std::ptrdiff_t>(values.get_desc().get_size() / sizeof(float));
#pragma omp parallel for simd if (len > 1 << 16)
        for (std::ptrdiff_t at = 0; at < len; at++) to[at] = 0;
    }

    dnnl::engine engine_;
    dnnl::stream stream_;
    bool train_;
    memory u_, w_, b_, x_, y_, dy_, du_, dw_, db_, dx_;
    dnnl::lstm_forward forward_;
    dnnl::lstm_backward backward_;
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
