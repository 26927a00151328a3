// SPDX-License-Identifier: MIT
// Quantizes a GGUF file by llama.cpp itself, as llama-quantize does; with a text also by importance, the mean squares of the inputs of each
// layer over the ids of that text, which llama-imatrix would write.
//
//   llama_quantize MODEL.gguf OUT.gguf TYPE [TEXT.u16 [IDS]]
#include <llama.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "llama_session.hpp"

namespace {

/// Sums of squares of the inputs of each matrix of a block, and over how many tokens.
struct input_squares {
    std::vector<double> sums;
    long tokens = 0;
};

/// Is asked before each node of the graph whether it wants to see it, and then called with the result.
bool observe(ggml_tensor* node, bool asks, void* data) {
    const ggml_tensor *const weights = node->src[0], *const inputs = node->src[1];
    if (asks) return node->op == GGML_OP_MUL_MAT && inputs->type == GGML_TYPE_F32 && std::strncmp(weights->name, "blk.", 4) == 0;
    input_squares& squares = (*static_cast<std::map<std::string, input_squares>*>(data))[weights->name];
    squares.sums.resize(static_cast<std::size_t>(inputs->ne[0]));
    for (std::int64_t t = 0; t < inputs->ne[1]; ++t, ++squares.tokens) {
        const auto* const values = reinterpret_cast<const float*>(static_cast<const char*>(inputs->data) + t * inputs->nb[1]);
        for (std::size_t j = 0; j < squares.sums.size(); ++j) squares.sums[j] += static_cast<double>(values[j]) * values[j];
    }
    return true;
}

/// The type of a file as llama.cpp names its mixes, in lower case.
llama_ftype type_called(const std::string& name) {
    static const std::map<std::string, llama_ftype> types{
        {"q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},     {"q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},     {"q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},
        {"q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},     {"q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},     {"q2_k", LLAMA_FTYPE_MOSTLY_Q2_K},
        {"q3_k_s", LLAMA_FTYPE_MOSTLY_Q3_K_S}, {"q3_k_m", LLAMA_FTYPE_MOSTLY_Q3_K_M}, {"q3_k_l", LLAMA_FTYPE_MOSTLY_Q3_K_L},
        {"q4_k_s", LLAMA_FTYPE_MOSTLY_Q4_K_S}, {"q4_k_m", LLAMA_FTYPE_MOSTLY_Q4_K_M}, {"q5_k_s", LLAMA_FTYPE_MOSTLY_Q5_K_S},
        {"q5_k_m", LLAMA_FTYPE_MOSTLY_Q5_K_M}, {"q6_k", LLAMA_FTYPE_MOSTLY_Q6_K}};
    const auto found = types.find(name);
    if (found == types.end()) fail("no type is called " + name);
    return found->second;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) fail("give a GGUF file, the one to write, and its type");
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = type_called(argv[3]);
    params.nthread = 1;
    be_quiet();

    std::map<std::string, input_squares> squares;
    if (argc > 4) {
        llama_session session(argv[1], observe, &squares);
        for (const auto& sequence : read_sequences(argv[4], argc > 5 ? std::stoul(argv[5]) : SIZE_MAX)) {
            session.forget();
            session.decode(sequence, 0);
        }
    }
    std::vector<std::vector<float>> means;
    std::vector<llama_model_imatrix_data> importance;
    for (const auto& [name, found] : squares) {
        std::vector<float>& mean = means.emplace_back(found.sums.size());
        for (std::size_t j = 0; j < mean.size(); ++j) mean[j] = static_cast<float>(found.sums[j] / static_cast<double>(found.tokens));
        importance.push_back({name.c_str(), mean.data(), mean.size()});
    }
    importance.push_back({nullptr, nullptr, 0});
    if (!squares.empty()) params.imatrix = importance.data();
    if (llama_model_quantize(argv[1], argv[2], &params) != 0) fail(std::string(argv[1]) + " cannot be quantized");
}
