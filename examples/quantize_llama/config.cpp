// SPDX-License-Identifier: MIT
#include "quantize_llama/config.hpp"

#include <cmath>
#include <string>

#include "common/error.hpp"
#include "common/files.hpp"
#include "common/json.hpp"

namespace examples {
namespace {

constexpr std::int64_t longest_text = std::int64_t{1} << 31;

/// A value as a message quotes it: on one line, in ASCII, not too long.
std::string text(const json& value) {
    const std::string whole = value.dump(-1, ' ', true);
    return whole.size() <= 60 ? whole : whole.substr(0, 60) + "...";
}

/// Typed access to the keys of one JSON object. A key that is null counts as absent.
class reader {
public:
    reader(const json& object, std::string name) : object_(object), name_(std::move(name)) {}

    [[nodiscard]] const json* find(const char* key) const {
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

    [[nodiscard]] token id(const char* key, const json& value, std::int64_t vocab_size) const {
        if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= static_cast<std::uint64_t>(vocab_size))
            refuse(name_, ": ", key, " must be a token id below ", vocab_size, ", it is ", text(value));
        return value.get<token>();
    }

    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    const json& object_;
    std::string name_;
};

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

rope_scaling read_scaling(const reader& rope, const llama_config& c) {
    constexpr double largest = 1e6;
    const std::string type = rope_type_of(rope);
    const bool linear = type == "linear", llama3 = type == "llama3", yarn = type == "yarn";
    if (type == "default" || type == "dynamic") return {};
    if (!linear && !llama3 && !yarn)
        refuse(rope.name(), ": rope_type must be default, linear, dynamic, llama3 or yarn, it is ", text(type));

    rope_scaling scaling;
    scaling.kind = linear ? rope_scaling_kind::linear : llama3 ? rope_scaling_kind::llama3 : rope_scaling_kind::yarn;
    scaling.factor = rope.positive("factor", {});
    if (scaling.factor < 1 || scaling.factor > largest)
        refuse(rope.name(), ": factor must be from 1 to ", largest, ", it is ", scaling.factor);
    if (linear) return scaling;

    scaling.original_max_position_embeddings =
        static_cast<double>(rope.size("original_max_position_embeddings", longest_text, c.max_position_embeddings));
    const char* const low = llama3 ? "low_freq_factor" : "beta_slow";
    const char* const high = llama3 ? "high_freq_factor" : "beta_fast";
    scaling.low_turns = rope.positive(low, llama3 ? std::nullopt : std::optional(scaling.low_turns));
    scaling.high_turns = rope.positive(high, llama3 ? std::nullopt : std::optional(scaling.high_turns));
    if (!(scaling.low_turns < scaling.high_turns))
        refuse(rope.name(), ": ", high, " (", scaling.high_turns, ") must be larger than ", low, " (", scaling.low_turns, ")");
    if (llama3) return scaling;

    constexpr double smallest_attention = 0.01, largest_attention = 100;  // no model is near them
    scaling.truncate = rope.flag("truncate", true);
    scaling.attention_factor = read_attention_factor(rope, scaling.factor);
    if (!(scaling.attention_factor >= smallest_attention && scaling.attention_factor <= largest_attention))
        refuse(rope.name(), ": the attention factor must be from ", smallest_attention, " to ", largest_attention, ", it is ",
               scaling.attention_factor);
    return scaling;
}

/// Reads rope_theta and the scaling: older files have the one beside `rope_scaling`, newer ones both in `rope_parameters`.
void read_rope(const reader& root, llama_config& c) {
    c.rope_theta = root.positive("rope_theta", c.rope_theta);
    if (root.find("rope_scaling") && root.find("rope_parameters")) refuse(root.name(), ": has both rope_scaling and rope_parameters");
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
        const json* object = root.find(key);
        if (!object) continue;
        if (!object->is_object()) refuse(root.name(), ": ", key, " must be an object");
        const reader rope(*object, root.name() + ": " + key);
        rope.only("partial_rotary_factor", 1.0, 1.0);
        c.rope_theta = rope.positive("rope_theta", c.rope_theta);
        c.scaling = read_scaling(rope, c);
    }
    if (!(c.rope_theta > 1)) refuse(root.name(), ": rope_theta must be larger than 1, it is ", c.rope_theta);
}

/// How the types differ: in biases and in the window of attention.
void read_type(const reader& root, const json& object, llama_config& c) {
    const json* type = root.find("model_type");
    const std::string name = type && type->is_string() ? type->get<std::string>() : "";
    if (name == "llama") {
        c.qkv_bias = c.o_bias = root.flag("attention_bias", false);
        c.mlp_bias = root.flag("mlp_bias", false);
    } else if (name == "mistral") {
        // null says that there is no window, the absence of the key that there is the published one.
        constexpr std::int64_t published = 4096;
        if (!object.contains("sliding_window") || root.find("sliding_window"))
            c.sliding_window = root.size("sliding_window", longest_text, published);
    } else if (name == "qwen2") {
        root.only("use_sliding_window", false, false);
        c.qkv_bias = true;
    } else {
        refuse(root.name(), ": model_type must be llama, mistral or qwen2, ", type ? "it is " + text(*type) : "it is missing");
    }
}

}  // namespace

llama_config read_config(const std::filesystem::path& file) {
    constexpr std::uint64_t longest_file = 1 << 20;
    constexpr std::int64_t widest = 1 << 20, most_tokens = 1 << 24, most_layers = 4096;
    const std::string name = file.string();
    const json object = parse_json_object(read_file(file, longest_file), name);
    const reader root(object, name);

    root.only("hidden_act", "silu", "silu");
    root.only("rope_interleaved", false, false);
    root.only("partial_rotary_factor", 1.0, 1.0);
    root.only("quantization_config", nullptr, nullptr);

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
    read_rope(root, c);
    c.tie_word_embeddings = root.flag("tie_word_embeddings", false);
    if (const json* bos = root.find("bos_token_id")) c.bos_token_id = root.id("bos_token_id", *bos, c.vocab_size);
    if (const json* eos = root.find("eos_token_id")) {
        if (eos->is_array())
            for (const json& value : *eos) c.eos_token_ids.push_back(root.id("eos_token_id", value, c.vocab_size));
        else
            c.eos_token_ids.push_back(root.id("eos_token_id", *eos, c.vocab_size));
    }
    return c;
}

}  // namespace examples
