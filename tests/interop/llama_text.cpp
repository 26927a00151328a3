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
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr std::size_t longest = 512, prompt_ids = 24, continued_ids = 32;

[[noreturn]] void fail(const std::string& message) {
    std::fprintf(stderr, "llama_text: %s\n", message.c_str());
    std::exit(1);
}

/// 0xFFFF begins each sequence; reading stops after `limit` ids.
std::vector<std::vector<llama_token>> read_sequences(const char* name, std::size_t limit) {
    std::ifstream file(name, std::ios::binary);
    if (!file) fail(std::string(name) + " cannot be opened");
    std::vector<std::vector<llama_token>> sequences;
    std::uint16_t id = 0;
    for (std::size_t ids = 0; ids < limit && file.read(reinterpret_cast<char*>(&id), sizeof id);) {
        if (id == 0xFFFF) {
            sequences.emplace_back();
        } else if (sequences.back().size() < longest) {
            sequences.back().push_back(id);
            ++ids;
        }
    }
    return sequences;
}

/// Computes these ids at the next positions, with logits for each.
void decode(llama_context* context, const std::vector<llama_token>& ids, llama_pos first) {
    llama_batch batch = llama_batch_init(static_cast<std::int32_t>(ids.size()), 0, 1);
    batch.n_tokens = static_cast<std::int32_t>(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
        batch.token[i] = ids[i];
        batch.pos[i] = first + static_cast<llama_pos>(i);
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    if (llama_decode(context, batch) != 0) fail("llama_decode failed");
    llama_batch_free(batch);
}

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
    llama_log_set(
        [](ggml_log_level level, const char* text, void*) {
            if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
        },
        nullptr);
    const std::unique_ptr<llama_model, decltype(&llama_model_free)> model(llama_model_load_from_file(argv[1], llama_model_default_params()),
                                                                          llama_model_free);
    if (!model) fail(std::string(argv[1]) + " is refused");
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = longest + continued_ids;
    params.n_threads = params.n_threads_batch = 1;
    params.type_k = params.type_v = GGML_TYPE_F32;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    const std::unique_ptr<llama_context, decltype(&llama_free)> context(llama_init_from_model(model.get(), params), llama_free);
    if (!context) fail("no context can be made");
    const std::int32_t vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model.get()));

    double sum = 0;
    long predictions = 0;
    for (const auto& sequence : sequences) {
        llama_memory_clear(llama_get_memory(context.get()), true);
        decode(context.get(), sequence, 0);
        for (std::size_t i = 0; i + 1 < sequence.size(); ++i, ++predictions)
            sum += loss(llama_get_logits_ith(context.get(), static_cast<std::int32_t>(i)), vocabulary, sequence[i + 1]);
    }
    std::printf("perplexity %.9g over %ld\n", std::exp(sum / static_cast<double>(predictions)), predictions);

    std::vector<llama_token> ids(sequences.front().begin(),
                                 sequences.front().begin() + static_cast<std::ptrdiff_t>(std::min(prompt_ids, sequences.front().size())));
    auto position = static_cast<llama_pos>(ids.size());
    llama_memory_clear(llama_get_memory(context.get()), true);
    decode(context.get(), ids, 0);
    std::int32_t last = static_cast<std::int32_t>(ids.size()) - 1;
    std::printf("greedy");
    for (std::size_t i = 0; i < continued_ids; ++i) {
        const float* const logits = llama_get_logits_ith(context.get(), last);
        const auto next = static_cast<llama_token>(std::max_element(logits, logits + vocabulary) - logits);
        std::printf(" %d", next);
        if (llama_vocab_is_eog(llama_model_get_vocab(model.get()), next)) break;
        decode(context.get(), {next}, position++);
        last = 0;
    }
    std::printf("\n");
}
