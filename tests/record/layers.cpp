// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <stdexcept>

#include "layers.hpp"

namespace record {
namespace {

/// An integer with a roughly normal distribution, mean 0, standard deviation 148, at most 512.
double bell(std::mt19937& random) {
    int sum = -510;
    for (int k = 0; k < 4; ++k) sum += static_cast<int>(random() >> 24);
    return sum;
}

/// What distinguishes a layer from ordinary weights and inputs.
struct peculiarity {
    std::ptrdiff_t tokens = 0;                                     ///< 0: three times the inputs
    double common = 1;                                             ///< size of a direction that all inputs share
    int weight_exponent = 0;                                       ///< weights times 2^this
    int input_exponent = 0;                                        ///< inputs times 2^this
    std::function<double(std::ptrdiff_t)> channel = {};            ///< factor on an input, an integer or a power of two
    std::function<double(double, std::ptrdiff_t)> weight_of = {};  ///< the weight, from its ordinary value and its row
};

table gram_of(const table& X) {
    table H(X.cols, X.cols);
    for (std::ptrdiff_t t = 0; t < X.rows; ++t)
        for (std::ptrdiff_t i = 0; i < X.cols; ++i)
            for (std::ptrdiff_t j = 0; j < X.cols; ++j) H(i, j) += X(t, i) * X(t, j);
    return H;
}

table inputs_of(std::ptrdiff_t tokens, std::ptrdiff_t in, const peculiarity& special, std::mt19937& random) {
    table X(tokens, in);
    std::vector<double> size;
    for (std::ptrdiff_t j = 0; j < in; ++j) size.push_back(random() % 8 == 0 ? 8 : 1 + static_cast<double>(random() % 3));
    for (std::ptrdiff_t t = 0; t < tokens; ++t) {
        const double common = special.common * bell(random);
        for (std::ptrdiff_t j = 0; j < in; ++j) {
            const double factor = special.channel ? special.channel(j) : 1.0;
            X(t, j) = std::ldexp((size[static_cast<std::size_t>(j)] * bell(random) + common) * factor, special.input_exponent - 8);
        }
    }
    return X;
}

layer make(const std::string& name, std::ptrdiff_t out, std::ptrdiff_t in, const peculiarity& special = {}) {
    std::mt19937 random(static_cast<unsigned>(1000 * out + in));
    layer made{name, table(out, in), {}, {}, {}, {}};
    for (std::ptrdiff_t i = 0; i < out; ++i)
        for (std::ptrdiff_t j = 0; j < in; ++j) {
            const double ordinary = bell(random) * (random() % 100 == 0 ? 6 : 1);
            made.W(i, j) = std::ldexp(special.weight_of ? special.weight_of(ordinary, i) : ordinary, special.weight_exponent - 13);
        }
    const std::ptrdiff_t tokens = special.tokens > 0 ? special.tokens : 3 * in;
    made.X = inputs_of(tokens, in, special, random);
    made.drifted = made.X;
    for (double& x : made.drifted.values)
        x = std::ldexp(std::nearbyint(std::ldexp(x, 4 - special.input_exponent)), special.input_exponent - 4);
    made.H = gram_of(made.X);
    made.validation = gram_of(inputs_of(tokens, in, special, random));
    return made;
}

layer make(const std::string& name) {
    if (name == "ordinary") return make(name, 24, 64);
    if (name == "odd") return make(name, 37, 75);
    if (name == "one row") return make(name, 1, 48);
    if (name == "one column") return make(name, 5, 1);
    if (name == "one weight") return make(name, 1, 1);
    if (name == "dead columns")  // a whole group of 16, the first, the last, and some that are nearly dead
        return make(name, 24, 64, {.channel = [](std::ptrdiff_t j) {
                        return j == 0 || j == 63 || (j >= 16 && j < 32) ? 0 : j % 10 == 5 ? 0x1p-9 : 1;
                    }});
    if (name == "all dead") return make(name, 6, 32, {.channel = [](std::ptrdiff_t) { return 0; }});
    if (name == "singular") return make(name, 16, 64, {.tokens = 20});
    if (name == "one token") return make(name, 16, 48, {.tokens = 1});
    if (name == "dominating direction") return make(name, 24, 96, {.common = 300});
    if (name == "massive channels") return make(name, 16, 64, {.channel = [](std::ptrdiff_t j) { return j < 2 ? 512 : 1; }});
    if (name == "tiny") return make(name, 12, 40, {.weight_exponent = -90, .input_exponent = -50});
    if (name == "huge") return make(name, 12, 40, {.weight_exponent = 90, .input_exponent = 50});
    if (name == "rows of different size")
        return make(name, 20, 48, {.weight_of = [](double w, std::ptrdiff_t i) { return std::ldexp(w, static_cast<int>(2 * i - 20)); }});
    if (name == "equal weights")  // rows of zeros, of one value, and of one magnitude
        return make(name, 9, 32, {.weight_of = [](double w, std::ptrdiff_t i) {
                        return i % 3 == 0 ? 0.0 : i % 3 == 1 ? 100.0 : std::copysign(100.0, w);
                    }});
    if (name == "one sign")
        return make(name, 10, 48,
                    {.weight_of = [](double w, std::ptrdiff_t i) { return i % 2 == 0 ? std::abs(w) + 40 : -std::abs(w) - 40; }});
    if (name == "packable") return make(name, 32, 256);
    if (name == "packable, dead columns")
        return make(name, 32, 512, {.tokens = 300, .channel = [](std::ptrdiff_t j) { return j < 48 || j >= 256 ? 0 : 1; }});
    if (name == "large") return make(name, 530, 400);  // several tiles of rows, blocks of columns and panels of tokens
    throw std::logic_error("layers: there is none called '" + name + "'");
}

}  // namespace

const layer& layer_of(const std::string& name) {
    static std::map<std::string, layer> made;
    const auto at = made.find(name);
    return at != made.end() ? at->second : made.emplace(name, make(name)).first->second;
}

const std::vector<std::string>& small_layers() {
    static const std::vector<std::string> names = {"ordinary",
                                                   "odd",
                                                   "one row",
                                                   "one column",
                                                   "one weight",
                                                   "dead columns",
                                                   "all dead",
                                                   "singular",
                                                   "one token",
                                                   "dominating direction",
                                                   "massive channels",
                                                   "tiny",
                                                   "huge",
                                                   "rows of different size",
                                                   "equal weights",
                                                   "one sign"};
    return names;
}

}  // namespace record
