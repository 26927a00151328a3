// SPDX-License-Identifier: MIT
#include "quantize_llama/config.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "common/error.hpp"
#include "common/files.hpp"
#include "common/json.hpp"
#include "quantize_llama/config_keys.hpp"

namespace examples {
namespace {

constexpr std::int64_t longest_text = std::int64_t{1} << 31;

/// A value as a message quotes it: on one line, in ASCII, not too long.
std::string text(const json& value) {
    const std::string whole = value.dump(-1, ' ', true);
    return whole.size() <= 60 ? whole : whole.substr(0, 60) + "...";
}

/// Typed access to the keys of one JSON object, which remembers the keys that were asked for. A key that is null counts as absent.
class reader {
public:
    reader(const json& object, std::string name) : object_(object), name_(std::move(name)) {}

    [[nodiscard]] bool was_asked_for(const std::string& key) const { return asked_for_.contains(key); }

    [[nodiscard]] const json* find(const char* key) const {
        asked_for_.insert(key);
        const auto entry = object_.find(key);
        return entry == object_.end() || entry->is_null() ? nullptr : &*entry;
    }

    [[nodiscard]] std::int64_t size(const char* key, std::int64_t largest, std::optional<std::int64_t> otherwise = {}) const {
        const json* value = find(key);
        if (!value && otherwise) return *otherwise;
        if (!value) refuse(name_, ": ", key, " is missing");
        if (!value->is_number_unsigned() || value->get<std::uint64_t>() < 1 ||
            value->get<std::uint64_t>() > static_cast<std::uint64_t>(largest))
            refuse(name_, ": ", key, " must be an integer from 1 to ", largest, ", it is ", text(*value));
        return value->get<std::int64_t>();
    }

    [[nodiscard]] double positive(const char* key, std::optional<double> otherwise) const {
        const json* value = find(key);
        if (!value && otherwise) return *otherwise;
        if (!value) refuse(name_, ": ", key, " is missing");
        if (!value->is_number() || !(value->get<double>() > 0))
            refuse(name_, ": ", key, " must be a positive number, it is ", text(*value));
        return value->get<double>();
    }

    [[nodiscard]] bool flag(const char* key, bool otherwise) const {
        const json* value = find(key);
        if (!value) return otherwise;
        if (!value->is_boolean()) refuse(name_, ": ", key, " must be true or false, it is ", text(*value));
        return value->get<bool>();
    }

    /// Refuses every value but `supported`; `otherwise` says what an absent key means.
    void only(const char* key, const json& supported, const json& otherwise) const {
        const json* value = find(key);
        const json& actual = value ? *value : otherwise;
        if (actual != supported)
            refuse(name_, ": ", key, " must be ", text(supported), ", ", value ? "it is " + text(*value) : "it is missing");
    }

    /// Refuses a number that is there and is not `expected`, up to rounding.
    void only_near(const char* key, double expected) const {
        constexpr double rounding = 1e-5;  // a factor is often written with few digits
        const json* value = find(key);
        if (value && !(value->is_number() && std::abs(value->get<double>() - expected) <= rounding * expected))
            refuse(name_, ": ", key, " must be ", expected, ", it is ", text(*value));
    }

    /// A token id, or none: some files say -1 for none, or an id that was added to the tokenizer but not to the model.
    [[nodiscard]] std::optional<token> id(const char* key, const json& value, std::int64_t vocab_size) const {
        if (!value.is_number_integer()) refuse(name_, ": ", key, " must be a token id, it is ", text(value));
        if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= static_cast<std::uint64_t>(vocab_size)) return {};
        return value.get<token>();
    }

    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    const json& object_;
    std::string name_;
    mutable std::set<std::string> asked_for_;
};

/// Refuses another activation than silu, which is also called swish.
void require_silu(const reader& root, const char* key) {
    if (*root.find(key) != "swish") root.only(key, "silu", nullptr);
}

/// Which scaling an object asks for; older files call it `type`, newer ones `rope_type`.
std::string rope_type_of(const reader& rope) {
    std::optional<std::string> type;
    for (const char* key : {"rope_type", "type"}) {
        const json* value = rope.find(key);
        if (!value) continue;
        if (!value->is_string()) refuse(rope.name(), ": ", key, " must be a string, it is ", text(*value));
        if (type) rope.only(key, *type, nullptr);
        type = value->get<std::string>();
    }
    return type.value_or("default");
}

/// What yarn multiplies rotated queries and keys by, so that attention does not become more even over longer texts.
double read_attention_factor(const reader& rope, double factor) {
    const auto growth = [&](double weight) { return 0.1 * weight * std::log(factor) + 1; };
    if (rope.find("attention_factor")) return rope.positive("attention_factor", {});
    if (rope.find("mscale") && rope.find("mscale_all_dim"))
        return growth(rope.positive("mscale", {})) / growth(rope.positive("mscale_all_dim", {}));
    return growth(1);
}

/// Refuses a key that the type of scaling does not use.
void require_known_keys(const reader& rope, const json& object, const std::string& type) {
    constexpr const char* of_all[] = {"rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings",
                                      "finetuned"};
    constexpr const char* of_llama3[] = {"low_freq_factor", "high_freq_factor"};
    constexpr const char* of_yarn[] = {"beta_slow",      "beta_fast", "attention_factor",     "mscale",
                                       "mscale_all_dim", "truncate",  "extrapolation_factor", "attn_factor"};
    for (const auto& [key, value] : object.items()) {
        const auto among = [&name = key](const auto& keys) { return std::find(std::begin(keys), std::end(keys), name) != std::end(keys); };
        const bool known = among(of_all) || (key == "factor" && type != "default") || (type == "llama3" && among(of_llama3)) ||
                           (type == "yarn" && among(of_yarn));
        if (!known && !value.is_null()) refuse(rope.name(), ": ", text(key), " is not known to RoPE of type ", text(type));
    }
}

/// How many tokens the texts of the first training had: beside or inside of the object.
double read_original_length(const reader& root, const reader& rope, const llama_config& c) {
    constexpr const char* key = "original_max_position_embeddings";
    const std::int64_t beside = root.size(key, longest_text, c.max_position_embeddings);
    const std::int64_t inside = rope.size(key, longest_text, beside);
    if (root.find(key) && inside != beside) refuse(rope.name(), ": ", key, " is ", inside, " here and ", beside, " beside it");
    return static_cast<double>(inside);
}

rope_scaling read_scaling(const reader& root, const reader& rope, const json& object, const llama_config& c) {
    constexpr double largest = 1e6;
    const std::string type = rope_type_of(rope);
    const bool linear = type == "linear", llama3 = type == "llama3", yarn = type == "yarn";
    const bool dynamic = type == "dynamic";
    if (type != "default" && !dynamic && !linear && !llama3 && !yarn)
        refuse(rope.name(), ": rope_type must be default, linear, dynamic, llama3 or yarn, it is ", text(type));
    require_known_keys(rope, object, type);
    const double original_length = read_original_length(root, rope, c);
    if (dynamic && original_length < static_cast<double>(c.max_position_embeddings))
        refuse(rope.name(), ": original_max_position_embeddings must not be below max_position_embeddings (", c.max_position_embeddings,
               ") with dynamic, it is ", original_length);
    if (type == "default" || dynamic) return {};

    rope_scaling scaling;
    scaling.kind = linear ? rope_scaling_kind::linear : llama3 ? rope_scaling_kind::llama3 : rope_scaling_kind::yarn;
    scaling.factor = rope.positive("factor", {});
    if (scaling.factor < 1 || scaling.factor > largest)
        refuse(rope.name(), ": factor must be from 1 to ", largest, ", it is ", scaling.factor);
    if (linear) return scaling;

    scaling.original_max_position_embeddings = original_length;
    const char* const low = llama3 ? "low_freq_factor" : "beta_slow";
    const char* const high = llama3 ? "high_freq_factor" : "beta_fast";
    scaling.low_turns = rope.positive(low, llama3 ? std::nullopt : std::optional(scaling.low_turns));
    scaling.high_turns = rope.positive(high, llama3 ? std::nullopt : std::optional(scaling.high_turns));
    if (!(scaling.low_turns < scaling.high_turns))
        refuse(rope.name(), ": ", high, " (", scaling.high_turns, ") must be larger than ", low, " (", scaling.low_turns, ")");
    if (llama3) return scaling;

    constexpr double smallest_attention = 0.01, largest_attention = 100;  // no model is near them
    rope.only_near("extrapolation_factor", 1);
    rope.only_near("attn_factor", 1);
    scaling.truncate = rope.flag("truncate", true);
    scaling.attention_factor = read_attention_factor(rope, scaling.factor);
    if (!(scaling.attention_factor >= smallest_attention && scaling.attention_factor <= largest_attention))
        refuse(rope.name(), ": the attention factor must be from ", smallest_attention, " to ", largest_attention, ", it is ",
               scaling.attention_factor);
    return scaling;
}

/// What holds for all layers: the object itself, or what it says for each kind of layer if that is the same.
const json& of_every_layer(const json& object, const std::string& name) {
    const json* first = nullptr;
    for (const auto& [kind, value] : object.items()) {
        if (!value.is_object()) continue;
        if (!kind.ends_with("_attention")) refuse(name, ": ", text(kind), " is not a kind of layer");
        if (first && value != *first) refuse(name, ": differs between kinds of layers, which is not supported");
        first = &value;
    }
    if (!first) return object;
    for (const auto& [kind, value] : object.items())
        if (!value.is_object() && !value.is_null()) refuse(name, ": ", text(kind), " stands beside the parameters of kinds of layers");
    return *first;
}

/// Reads rope_theta and the scaling: older files have the one beside `rope_scaling`, newer ones both in `rope_parameters`.
void read_rope(const reader& root, llama_config& c) {
    c.rope_theta = root.positive("rope_theta", c.rope_theta);
    // other names of it, also for layers of one kind alone
    for (const char* key : {"rotary_emb_base", "rotary_base", "rope_base", "rope_local_base_freq", "local_rope_theta", "global_rope_theta"})
        root.only_near(key, c.rope_theta);
    if (root.find("rope_scaling") && root.find("rope_parameters")) refuse(root.name(), ": has both rope_scaling and rope_parameters");
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
        const json* object = root.find(key);
        if (!object) continue;
        if (!object->is_object()) refuse(root.name(), ": ", key, " must be an object");
        const json& same = of_every_layer(*object, root.name() + ": " + key);
        const reader rope(same, root.name() + ": " + key);
        rope.only("partial_rotary_factor", 1.0, 1.0);
        if (root.find("rope_theta")) rope.only_near("rope_theta", c.rope_theta);  // readers differ in which of two they take
        c.rope_theta = rope.positive("rope_theta", c.rope_theta);
        c.scaling = read_scaling(root, rope, same, c);
    }
    if (!(c.rope_theta > 1)) refuse(root.name(), ": rope_theta must be larger than 1, it is ", c.rope_theta);
}

/// Refuses a model that is computed by a class of another architecture, which some engines go by, or by code of its own.
void require_known_class(const reader& root) {
    constexpr std::string_view known[] = {"llamaforcausallm", "mistralforcausallm", "qwen2forcausallm",
                                          "llamamodel",       "mistralmodel",       "qwen2model"};
    if (const json* classes = root.find("architectures"))
        for (const json& one : classes->is_array() ? *classes : json::array({*classes})) {
            std::string name = one.is_string() ? one.get<std::string>() : "";
            std::transform(name.begin(), name.end(), name.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
            if (std::find(std::begin(known), std::end(known), name) == std::end(known))
                refuse(root.name(), ": architectures must name the language model of llama, mistral or qwen2, it is ", text(one));
        }
    if (const json* code = root.find("auto_map"))
        for (const auto& [key, value] : code->items())
            if (key.starts_with("AutoModel"))
                refuse(root.name(), ": auto_map has code of the model's own for ", text(key),
                       ", which may compute something else; take the entry away if it does not");
}

/// How the types differ: in biases and in the window of attention.
void read_type(const reader& root, const json& object, llama_config& c) {
    const json* type = root.find("model_type");
    const std::string name = type && type->is_string() ? type->get<std::string>() : "";
    if (name == "llama") {
        root.only("use_sliding_window", false, false);
        c.qkv_bias = c.o_bias = root.flag("attention_bias", false);
        c.mlp_bias = root.flag("mlp_bias", false);
    } else if (name == "mistral") {
        root.only("attention_bias", false, false);
        root.only("mlp_bias", false, false);
        // null says that there is no window, the absence of the key that there is the published one.
        constexpr std::int64_t published = 4096;
        if (!object.contains("sliding_window") || root.find("sliding_window"))
            c.sliding_window = root.size("sliding_window", longest_text, published);
        if (root.find("sliding_window")) root.only("use_sliding_window", true, true);  // engines differ in whether it counts
    } else if (name == "qwen2") {
        root.only("use_sliding_window", false, false);
        root.only("mlp_bias", false, false);
        static_cast<void>(root.find("attention_bias"));  // the type does not read it
        c.qkv_bias = true;
    } else {
        refuse(root.name(), ": model_type must be llama, mistral or qwen2, ", type ? "it is " + text(*type) : "it is missing");
    }
    require_known_class(root);
}

/// Accepts keys of related architectures, and other names of the same sizes, with the one value that changes nothing here.
void require_neutral_values(const reader& root, const llama_config& c) {
    for (const char* key : {"is_causal", "causal", "use_rope", "use_rotary", "rotary", "use_rms_norm", "use_rmsnorm", "gated_mlp",
                            "use_swiglu", "do_layer_norm_before"})
        root.only(key, true, true);
    for (const char* key :
         {"partial_rotary_factor", "rotary_pct", "rotary_percent", "rope_pct", "residual_multiplier", "embedding_multiplier",
          "logits_scaling", "logit_scale", "lm_head_multiplier", "key_multiplier", "attention_in_multiplier", "attention_out_multiplier",
          "scale_emb", "emb_scale", "attn_scale", "attention_scale", "rope_scaling_factor"})
        root.only_near(key, 1);

    const auto heads = static_cast<double>(c.num_attention_heads), key_heads = static_cast<double>(c.num_key_value_heads);
    const auto head_dim = static_cast<double>(c.head_dim), hidden = static_cast<double>(c.hidden_size);
    const auto layers = static_cast<double>(c.num_hidden_layers);
    for (const auto& [key, expected] :
         std::initializer_list<std::pair<const char*, double>>{{"attention_multiplier", 1 / std::sqrt(head_dim)},
                                                               {"query_pre_attn_scalar", head_dim},
                                                               {"rotary_dim", head_dim},
                                                               {"rope_dim", head_dim},
                                                               {"v_head_dim", head_dim},
                                                               {"kv_channels", head_dim},
                                                               {"head_size", head_dim},
                                                               {"attention_head_size", head_dim},
                                                               {"scale_depth", std::sqrt(layers)},
                                                               {"n_layer", layers},
                                                               {"n_layers", layers},
                                                               {"num_layers", layers},
                                                               {"dim_model_base", hidden},
                                                               {"d_model", hidden},
                                                               {"dim", hidden},
                                                               {"n_embd", hidden},
                                                               {"ffn_dim", static_cast<double>(c.intermediate_size)},
                                                               {"ffn_hidden_size", static_cast<double>(c.intermediate_size)},
                                                               {"n_inner", static_cast<double>(c.intermediate_size)},
                                                               {"n_head", heads},
                                                               {"n_heads", heads},
                                                               {"num_heads", heads},
                                                               {"n_kv_heads", key_heads},
                                                               {"num_kv_heads", key_heads},
                                                               {"num_key_value_groups", heads / key_heads},
                                                               {"padded_vocab_size", static_cast<double>(c.vocab_size)},
                                                               {"layer_norm_eps", c.rms_norm_eps},
                                                               {"layer_norm_epsilon", c.rms_norm_eps},
                                                               {"norm_eps", c.rms_norm_eps},
                                                               {"norm_epsilon", c.rms_norm_eps}})
        root.only_near(key, expected);
    for (const char* key :
         {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_tok", "n_shared_experts",
          "kv_lora_rank", "q_lora_rank", "num_kv_shared_layers", "num_nextn_predict_layers", "attention_sink_size"})
        if (const json* value = root.find(key); value && *value != 0) root.only(key, 0, 0);
    for (const char* key : {"bias", "use_bias", "qkv_bias", "add_qkv_bias", "attention_qkv_bias"})
        if (root.find(key)) root.only(key, c.qkv_bias, nullptr);
    for (const char* key : {"hidden_activation", "mlp_hidden_act", "activation_function", "activation"})
        if (root.find(key)) require_silu(root, key);
    for (const char* key : {"quantization_config", "compression_config", "quantization"})
        if (const json* value = root.find(key); value && !value->empty())
            refuse(root.name(), ": the weights are quantized already, says ", key, "; those of before are needed");
    if (const json* kind = root.find("position_embedding_type"); kind && *kind != "rope" && *kind != "rotary")
        root.only("position_embedding_type", "rope", nullptr);
}

/// Refuses every other key, as it may change what the model computes: the file is of a model that is not known here, whatever its type is
/// called. What is null, false or empty asks for nothing.
void require_no_other_keys(const reader& root, const json& object) {
    for (const auto& [key, value] : object.items()) {
        const bool asks_for_nothing = value.is_null() || value == false || value == "" || (value.is_structured() && value.empty());
        if (!asks_for_nothing && !root.was_asked_for(key) && !changes_no_output(key))
            refuse(root.name(), ": ", text(key), " is not known here, and may change what the model computes (it is ", text(value),
                   "); take it away if it does not");
    }
}

/// Refuses layers that attend in different ways, and a window that the type does not have.
void require_same_attention(const reader& root, const llama_config& c) {
    const bool windowed = c.sliding_window < c.max_position_embeddings;
    if (const json* kinds = root.find("layer_types")) {
        const char* const expected = windowed ? "sliding_attention" : "full_attention";
        if (!kinds->is_array() || std::ssize(*kinds) != c.num_hidden_layers)
            refuse(root.name(), ": layer_types must be an array of ", c.num_hidden_layers, " names, it is ", text(*kinds));
        for (const json& kind : *kinds)
            if (kind != expected)
                refuse(root.name(), ": layer_types must all be ", expected, " in a model of this configuration, one is ", text(kind));
    }
    // Llama has no window; the files of qwen2 have one that use_sliding_window turns off.
    const json* window = root.find("sliding_window");
    if (*root.find("model_type") == "llama" && window && root.find("use_sliding_window") == nullptr)
        if (!window->is_number_integer() || *window < c.max_position_embeddings)
            refuse(root.name(), ": sliding_window must not be below max_position_embeddings in a model of type llama, it is ",
                   text(*window));
}

}  // namespace

llama_config read_config(const std::filesystem::path& file) {
    constexpr std::uint64_t longest_file = 1 << 20;
    constexpr std::int64_t widest = 1 << 20, most_tokens = 1 << 24, most_layers = 4096;
    const std::string name = file.string();
    const json object = parse_json_object(read_file(file, longest_file), name);
    const reader root(object, name);

    if (root.find("hidden_act")) require_silu(root, "hidden_act");
    llama_config c;
    read_type(root, object, c);
    c.vocab_size = root.size("vocab_size", most_tokens);
    c.hidden_size = root.size("hidden_size", widest);
    c.intermediate_size = root.size("intermediate_size", widest);
    c.num_hidden_layers = root.size("num_hidden_layers", most_layers);
    c.num_attention_heads = root.size("num_attention_heads", widest);
    // Only Llama's files may leave this out; the other types' defaults are numbers of their own.
    c.num_key_value_heads =
        root.size("num_key_value_heads", widest, object.at("model_type") == "llama" ? std::optional(c.num_attention_heads) : std::nullopt);
    if (c.num_attention_heads % c.num_key_value_heads != 0)
        refuse(name, ": num_attention_heads (", c.num_attention_heads, ") must be a multiple of num_key_value_heads (",
               c.num_key_value_heads, ")");
    if (!root.find("head_dim") && c.hidden_size % c.num_attention_heads != 0)
        refuse(name, ": hidden_size (", c.hidden_size, ") must be a multiple of num_attention_heads (", c.num_attention_heads,
               ") when head_dim is absent");
    c.head_dim = root.size("head_dim", widest, c.hidden_size / c.num_attention_heads);
    if (c.head_dim % 2 != 0) refuse(name, ": the size of a head must be even, it is ", c.head_dim);
    if (c.num_attention_heads * c.head_dim > widest)
        refuse(name, ": num_attention_heads * head_dim is ", c.num_attention_heads * c.head_dim, ", more than ", widest);
    c.max_position_embeddings = root.size("max_position_embeddings", longest_text);
    c.rms_norm_eps = root.positive("rms_norm_eps", c.rms_norm_eps);
    if (!(static_cast<float>(c.rms_norm_eps) > 0 && std::isfinite(static_cast<float>(c.rms_norm_eps))))
        refuse(name, ": rms_norm_eps must be a positive number of float32, it is ", c.rms_norm_eps);
    read_rope(root, c);
    require_same_attention(root, c);
    require_neutral_values(root, c);
    c.tie_word_embeddings = root.flag("tie_word_embeddings", false);
    if (const json* bos = root.find("bos_token_id")) c.bos_token_id = root.id("bos_token_id", *bos, c.vocab_size);
    if (const json* eos = root.find("eos_token_id"))
        for (const json& value : eos->is_array() ? *eos : json::array({*eos}))
            if (const auto id = root.id("eos_token_id", value, c.vocab_size)) c.eos_token_ids.push_back(*id);
    require_no_other_keys(root, object);
    return c;
}

}  // namespace examples
