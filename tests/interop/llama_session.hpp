// SPDX-License-Identifier: MIT
// What the programs that call llama.cpp share.
#pragma once

#include <llama.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

constexpr std::size_t longest_sequence = 512, continued_ids = 32;

[[noreturn]] inline void fail(const std::string& message) {
    std::fprintf(stderr, "%s\n", message.c_str());
    std::exit(1);
}

/// llama.cpp's errors only.
inline void be_quiet() {
    llama_log_set(
        [](ggml_log_level level, const char* text, void*) {
            if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
        },
        nullptr);
}

/// 0xFFFF begins each sequence; reading stops after `limit` ids.
inline std::vector<std::vector<llama_token>> read_sequences(const char* name, std::size_t limit) {
    std::ifstream file(name, std::ios::binary);
    if (!file) fail(std::string(name) + " cannot be opened");
    std::vector<std::vector<llama_token>> sequences;
    std::uint16_t id = 0;
    for (std::size_t ids = 0; ids < limit && file.read(reinterpret_cast<char*>(&id), sizeof id);) {
        if (id == 0xFFFF) {
            sequences.emplace_back();
        } else if (sequences.back().size() < longest_sequence) {
            sequences.back().push_back(id);
            ++ids;
        }
    }
    return sequences;
}

/// A model and what it remembers of one sequence.
class llama_session {
public:
    explicit llama_session(const char* file, ggml_backend_sched_eval_callback observer = nullptr, void* observer_data = nullptr) {
        llama_model_params model_params = llama_model_default_params();
        // Weights as the file has them. For some processors ggml would repack them, and on a virtual machine with Intel's AMX this version
        // then crashed, with llama.cpp's own files, too.
        model_params.use_extra_bufts = false;
        model_.reset(llama_model_load_from_file(file, model_params));
        if (!model_) fail(std::string(file) + " is refused");
        llama_context_params params = llama_context_default_params();
        params.n_ctx = params.n_batch = params.n_ubatch = longest_sequence + continued_ids;
        params.n_threads = params.n_threads_batch = 1;
        params.type_k = params.type_v = GGML_TYPE_F32;
        params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
        params.cb_eval = observer;
        params.cb_eval_user_data = observer_data;
        context_.reset(llama_init_from_model(model_.get(), params));
        if (!context_) fail("no context can be made");
    }

    [[nodiscard]] const llama_vocab* vocabulary() const { return llama_model_get_vocab(model_.get()); }

    void forget() { llama_memory_clear(llama_get_memory(context_.get()), true); }

    /// Computes these ids at the next positions, with logits for each.
    void decode(const std::vector<llama_token>& ids, llama_pos first) {
        llama_batch batch = llama_batch_init(static_cast<std::int32_t>(ids.size()), 0, 1);
        batch.n_tokens = static_cast<std::int32_t>(ids.size());
        for (std::size_t i = 0; i < ids.size(); ++i) {
            batch.token[i] = ids[i];
            batch.pos[i] = first + static_cast<llama_pos>(i);
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        if (llama_decode(context_.get(), batch) != 0) fail("llama_decode failed");
        llama_batch_free(batch);
    }

    [[nodiscard]] const float* logits(std::int32_t position) { return llama_get_logits_ith(context_.get(), position); }

private:
    std::unique_ptr<llama_model, decltype(&llama_model_free)> model_{nullptr, llama_model_free};
    std::unique_ptr<llama_context, decltype(&llama_free)> context_{nullptr, llama_free};
};
