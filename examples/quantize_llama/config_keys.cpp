// SPDX-License-Identifier: MIT
#include "quantize_llama/config_keys.hpp"

#include <algorithm>
#include <iterator>

namespace examples {

bool changes_no_output(std::string_view key) {
    constexpr std::string_view names[] = {
        // names and versions
        "_name_or_path", "name_or_path", "model_name", "_commit_hash", "_diffusers_version", "finetuning_task", "is_llama_config",
        "license", "model_card", "tokenizer_class", "transformers.js_config", "unsloth_fixed",
        // types of storage
        "dtype", "params_dtype", "torch_dtype", "use_bfloat16",
        // training; pretraining_tp is how many parts the matrices had in it
        "fsdp", "gradient_checkpointing", "init_std", "initializer_factor", "initializer_range", "pretraining_tp", "recompute",
        "router_aux_loss_coef", "sequence_parallel", "tensor_parallel_degree", "use_recompute", "virtual_pp_degree",
        // sizes that others follow from, and lengths that no output depends on
        "ffn_dim_multiplier", "max_length", "max_seq_len", "max_seq_length", "max_sequence_length", "max_window_layers", "model_max_length",
        "multiple_of", "n_ctx", "n_positions", "seq_length", "tokenizer_model_max_length",
        // which kernels compute it, and what they give back
        "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal", "_flash_attn_2_enabled",
        "attn_implementation", "chunk_size_feed_forward", "flash_attn", "flash_attention", "is_decoder", "output_attentions",
        "output_hidden_states", "output_router_logits", "output_scores", "return_dict", "return_dict_in_generate", "torchscript",
        "use_cache", "use_flash_attention", "use_flash_attention_2", "use_flash_attn", "use_fused_rms_norm", "use_fused_rope", "use_sdpa",
        // classifiers
        "id2label", "label2id", "num_labels", "problem_type",
        // generation of texts
        "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping", "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty", "length_penalty", "max_new_tokens", "min_length", "no_repeat_ngram_size", "num_beam_groups",
        "num_beams", "num_return_sequences", "prefix", "remove_invalid_values", "repetition_penalty", "suppress_tokens",
        "task_specific_params", "temperature", "tokenizer_padding_side", "top_k", "top_p", "typical_p"};
    constexpr std::string_view endings[] = {"_version", "_token_id", "dropout", "_dropout_prob", "_pdrop", "layerdrop"};
    return std::find(std::begin(names), std::end(names), key) != std::end(names) ||
           std::any_of(std::begin(endings), std::end(endings), [&](std::string_view ending) { return key.ends_with(ending); });
}

}  // namespace examples
