// SPDX-License-Identifier: MIT
#include "quantize_llama/config.hpp"

#include <string>

#include "common/error.hpp"
#include "common/files.hpp"
#include "common/json.hpp"

namespace examples {
namespace {

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

    [[nodiscard]] double positive(const char* key, double otherwise) const {
        const json* value = find(key);
        if (!value) return otherwise;
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
    static std::string text(const json& value) {
        const std::string whole = value.dump(-1, ' ', true);
        return whole.size() <= 60 ? whole : whole.substr(0, 60) + "...";
    }

    const json& object_;
    std::string name_;
};

/// Only plain RoPE is implemented. Older files say so by the absence of rope_scaling, newer ones in rope_parameters.
double read_rope_theta(const reader& root) {
    constexpr double usual = 10000.0;
    double theta = root.positive("rope_theta", usual);
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
        const json* object = root.find(key);
        if (!object) continue;
        if (!object->is_object()) refuse(root.name(), ": ", key, " must be an object");
        const reader nested(*object, root.name() + ": " + key);
        nested.only("type", "default", "default");
        nested.only("rope_type", "default", "default");
        nested.only("partial_rotary_factor", 1.0, 1.0);
        theta = nested.positive("rope_theta", theta);
    }
    return theta;
}

}  // namespace

llama_config read_config(const std::filesystem::path& file) {
    constexpr std::uint64_t longest_file = 1 << 20;
    constexpr std::int64_t widest = 1 << 20, most_tokens = 1 << 24, most_layers = 4096, longest_text = std::int64_t{1} << 31;
    const std::string name = file.string();
    const json object = parse_json_object(read_file(file, longest_file), name);
    const reader root(object, name);

    root.only("model_type", "llama", nullptr);
    root.only("hidden_act", "silu", "silu");
    root.only("attention_bias", false, false);
    root.only("mlp_bias", false, false);
    root.only("rope_interleaved", false, false);
    root.only("partial_rotary_factor", 1.0, 1.0);
    root.only("quantization_config", nullptr, nullptr);

    llama_config c;
    c.vocab_size = root.size("vocab_size", most_tokens);
    c.hidden_size = root.size("hidden_size", widest);
    c.intermediate_size = root.size("intermediate_size", widest);
    c.num_hidden_layers = root.size("num_hidden_layers", most_layers);
    c.num_attention_heads = root.size("num_attention_heads", widest);
    c.num_key_value_heads = root.size("num_key_value_heads", widest, c.num_attention_heads);
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
    c.rope_theta = read_rope_theta(root);
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
