// SPDX-License-Identifier: MIT
// What llama.cpp makes of a GGUF file: its perplexity on sequences of token ids, and how it goes on with the first of them. Each sequence
// begins anew, and its first id is given, as in quantize_llama; llama-perplexity would cut the text into windows of one length instead.
//
//   llama_text MODEL.gguf TEXT.u16 [IDS]
#include <llama.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "llama_session.hpp"

namespace {

constexpr std::size_t prompt_ids = 24;

/// -log softmax(logits)[id]
double loss(const float* logits, std::int32_t vocabulary, llama_token id) {
    const float largest = *std::max_element(logits, logits + vocabulary);
    double sum = 0;
    for (std::int32_t v = 0; v < vocabulary; ++v) sum += std::exp(static_cast<double>(logits[v] - largest));
    return std::log(sum) - static_cast<double>(logits[id] - largest);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) fail("give a GGUF file and a file of token ids");
    const auto sequences = read_sequences(argv[2], argc > 3 ? std::stoul(argv[3]) : SIZE_MAX);
    be_quiet();
    llama_session session(argv[1]);
    const std::int32_t vocabulary = llama_vocab_n_tokens(session.vocabulary());

    double sum = 0;
    long predictions = 0;
    for (const auto& sequence : sequences) {
        session.forget();
        session.decode(sequence, 0);
        for (std::size_t i = 0; i + 1 < sequence.size(); ++i, ++predictions)
            sum += loss(session.logits(static_cast<std::int32_t>(i)), vocabulary, sequence[i + 1]);
    }
    std::printf("perplexity %.9g over %ld\n", std::exp(sum / static_cast<double>(predictions)), predictions);

    std::vector<llama_token> ids(sequences.front().begin(),
                                 sequences.front().begin() + static_cast<std::ptrdiff_t>(std::min(prompt_ids, sequences.front().size())));
    auto position = static_cast<llama_pos>(ids.size());
    session.forget();
    session.decode(ids, 0);
    std::int32_t last = static_cast<std::int32_t>(ids.size()) - 1;
    std::printf("greedy");
    for (std::size_t i = 0; i < continued_ids; ++i) {
        const float* const logits = session.logits(last);
        const auto next = static_cast<llama_token>(std::max_element(logits, logits + vocabulary) - logits);
        float second = -INFINITY;
        for (llama_token v = 0; v < vocabulary; ++v)
            if (v != next) second = std::max(second, logits[v]);
        std::printf(" %d:%.3f", next, logits[next] - second);
        if (llama_vocab_is_eog(session.vocabulary(), next)) break;
        session.decode({next}, position++);
        last = 0;
    }
    std::printf("\n");
}
