// SPDX-License-Identifier: MIT
#include "quantize_llama/gguf_model.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <magr/gguf/gguf.hpp>
#include <magr/gguf/k_quants.hpp>
#include <magr/quantize/rtn.hpp>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/error.hpp"
#include "quantize_llama/gguf_file.hpp"

namespace examples {
namespace {

enum class role { embedding, head, final_norm, input_norm, post_attention_norm, weight, bias };

/// What a tensor of the base file is in the model.
struct place {
    examples::role role;
    std::int64_t block = 0;
    linear kind = linear::q_proj;
};

constexpr std::uint32_t quantization_version = 2;          // of the blocks that ggml reads today
constexpr const char* rope_factors = "rope_freqs.weight";  // of the metadata's kind: it depends on the configuration alone

/// A layer's name in a GGUF file, below "blk.N."
const char* gguf_name_of(linear kind) {
    constexpr std::array names{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
    return names[static_cast<std::size_t>(kind)];
}

std::map<std::string, place> places_of(const llama_config& config) {
    std::map<std::string, place> places{{"token_embd.weight", {role::embedding}}, {"output_norm.weight", {role::final_norm}}};
    if (!config.tie_word_embeddings) places.emplace("output.weight", place{role::head});
    for (std::int64_t block = 0; block < config.num_hidden_layers; ++block) {
        const std::string prefix = "blk." + std::to_string(block) + ".";
        places.emplace(prefix + "attn_norm.weight", place{role::input_norm, block});
        places.emplace(prefix + "ffn_norm.weight", place{role::post_attention_norm, block});
        for (const linear kind : all_linears) {
            places.emplace(prefix + gguf_name_of(kind) + ".weight", place{role::weight, block, kind});
            if (has_bias(config, kind)) places.emplace(prefix + gguf_name_of(kind) + ".bias", place{role::bias, block, kind});
        }
    }
    return places;
}

/// A base file that is known to be of the model's kind, but not yet to have its values.
class base_file {
public:
    base_file(const llama_config& config, const std::filesystem::path& path) : config_(config), file_(path), places_(places_of(config)) {
        const std::string name = path.string();
        const auto architecture = file_.text("general.architecture");
        if (architecture != "llama" && architecture != "qwen2")
            refuse(name, ": general.architecture must be llama or qwen2, it is ", architecture.value_or("missing"));
        pairs_rows_ = architecture == "llama";
        if (file_.number("split.count").value_or(1) > 1) refuse(name, ": is one of several files; merge them first with llama-gguf-split");
        const auto require = [&](const char* key, std::int64_t expected) {
            const std::string whole = *architecture + "." + key;
            const auto found = file_.number(whole);
            if (found != static_cast<std::uint64_t>(expected))
                refuse(name, ": ", whole, " must be ", expected, " as in config.json, it is ", found ? std::to_string(*found) : "missing");
        };
        require("block_count", config.num_hidden_layers);
        require("embedding_length", config.hidden_size);
        require("feed_forward_length", config.intermediate_size);
        require("attention.head_count", config.num_attention_heads);
        for (const auto& entry : places_)
            if (!file_.contains(entry.first)) refuse(name, ": tensor ", entry.first, " is missing");
        for (const gguf_tensor_info& tensor : file_.tensors()) {
            if (tensor.name == rope_factors) continue;
            const auto known = places_.find(tensor.name);
            if (known == places_.end()) refuse(name, ": tensor ", tensor.name, " has no place in a model of this configuration");
            if (tensor.sizes != sizes_of(known->second))
                refuse(name, ": tensor ", tensor.name, " has not the shape that config.json asks for");
        }
    }

    [[nodiscard]] const gguf_file& file() const noexcept { return file_; }
    /// Nothing for tensors that are copied whatever they hold.
    [[nodiscard]] std::optional<place> find(const std::string& tensor) const {
        const auto known = places_.find(tensor);
        return known == places_.end() ? std::nullopt : std::optional(known->second);
    }

    /// The row of the model's layer that is row `row` of its tensor.
    [[nodiscard]] std::int64_t row_of(linear kind, std::int64_t row) const {
        const bool rotates = kind == linear::q_proj || kind == linear::k_proj;
        return pairs_rows_ && rotates ? row_before_pairing(row, config_.head_dim) : row;
    }

    /// Refuses a tensor that is not this one of the model, rounded to its type.
    void require_values(const std::string& name, const matrix_f& expected, linear kind = linear::v_proj) const {
        const std::uint32_t type = file_.tensor(name).type;
        const float relative = type == gguf_bf16 ? 0x1p-8f : 0x1p-11f, absolute = 0x1p-25f;  // f16 has no numbers between 0 and 2^-24
        const bool is_vector = file_.tensor(name).sizes.size() == 1;
        matrix_f found(expected.rows(), expected.cols());
        file_.read(name, {found.data(), static_cast<std::size_t>(found.size())});
        for (Eigen::Index i = 0; i < found.rows(); ++i)
            for (Eigen::Index j = 0; j < found.cols(); ++j) {
                const float is = found(i, j), was = is_vector ? expected(0, row_of(kind, j)) : expected(row_of(kind, i), j);
                if (std::abs(is - was) <= relative * std::abs(was) + absolute) continue;
                refuse(file_.path().string(), ": tensor ", name, " is not that of the model: row ", is_vector ? j : i, ", column ",
                       is_vector ? 0 : j, " is ", is, ", in the model it is ", was);
            }
    }

private:
    [[nodiscard]] std::vector<std::uint64_t> sizes_of(const place& at) const {
        const auto size = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
        switch (at.role) {
            case role::embedding:
            case role::head: return {size(config_.hidden_size), size(config_.vocab_size)};
            case role::weight: return {size(shape_of(config_, at.kind).cols), size(shape_of(config_, at.kind).rows)};
            case role::bias: return {size(shape_of(config_, at.kind).rows)};
            case role::final_norm:
            case role::input_norm:
            case role::post_attention_norm: break;
        }
        return {size(config_.hidden_size)};
    }

    const llama_config& config_;
    gguf_file file_;
    std::map<std::string, place> places_;
    bool pairs_rows_ = false;
};

void require_type_for_rows(std::optional<magr::ggml_type> type, const llama_config& config, const char* what) {
    if (type && static_cast<std::uint64_t>(config.hidden_size) % block_of(*type).weights != 0)
        refuse(what, ": rows of ", config.hidden_size, " weights do not fill the blocks of ", block_of(*type).weights, " of ",
               to_string(*type));
}

void require_types_for_rows(const gguf_options& options, const llama_config& config) {
    require_rows_of_blocks(options.mix, config);
    require_type_for_rows(options.embedding, config, "the embedding");
    require_type_for_rows(options.head, config, "the head");
}

/// Refuses a base file that has not the values of the model.
void require_values(const base_file& base, const model_folder& model) {
    const llama_config& config = model.config();
    base.require_values("token_embd.weight", model.embedding());
    if (!config.tie_word_embeddings) base.require_values("output.weight", model.head());
    base.require_values("output_norm.weight", model.final_norm());
    for (std::int64_t b = 0; b < config.num_hidden_layers; ++b) {
        const llama_block block = model.block(b);
        const std::string prefix = "blk." + std::to_string(b) + ".";
        base.require_values(prefix + "attn_norm.weight", block.input_norm);
        base.require_values(prefix + "ffn_norm.weight", block.post_attention_norm);
        for (const linear kind : all_linears) {
            base.require_values(prefix + gguf_name_of(kind) + ".weight", block[kind], kind);
            if (has_bias(config, kind)) base.require_values(prefix + gguf_name_of(kind) + ".bias", block.bias(kind), kind);
        }
    }
}

/// Row i of the result is row `row_of(i)` of m, which may have no rows.
template <class T, class RowOf>
magr::matrix<T> with_rows(const magr::matrix<T>& m, const RowOf& row_of) {
    magr::matrix<T> result(m.rows(), m.cols());
    for (magr::index_t i = 0; i < m.rows(); ++i) std::copy_n(m.data() + row_of(i) * m.cols(), m.cols(), result.data() + i * m.cols());
    return result;
}

template <class RowOf>
magr::quantized_matrix<float> with_rows(magr::quantized_matrix<float> q, const RowOf& row_of) {
    q.codes = with_rows(q.codes, row_of);
    q.scales = with_rows(q.scales, row_of);
    q.zeros = with_rows(q.zeros, row_of);
    q.shared.scales = with_rows(q.shared.scales, row_of);
    q.shared.offsets = with_rows(q.shared.offsets, row_of);
    q.shared.scale_codes = with_rows(q.shared.scale_codes, row_of);
    q.shared.offset_codes = with_rows(q.shared.offset_codes, row_of);
    return q;
}

/// Rounds each weight of a matrix by itself, onto grids with the least squared error: what llama.cpp rounded to this type before stays as
/// it is.
magr::gguf_tensor rounded(const matrix_f& W, magr::ggml_type type) {
    if (is_k_quant(type)) return magr::pack_gguf(magr::quantize_rtn(W, magr::fit_k_quant_grids(W, type)), type);
    magr::grid_options grid = grid_options_of(type);
    grid.range = magr::range_search::mse;
    grid.error_exponent = 2;
    return magr::pack_gguf(magr::quantize_rtn(W, grid), type);
}

void append_floats(gguf_writer& writer, const row_f& values) {
    writer.append(std::as_bytes(std::span(values.data(), static_cast<std::size_t>(values.size()))));
}

}  // namespace

gguf_options as_llama_cpp(gguf_mix mix, const llama_config& config) {
    return {mix, embedding_type_in_mix(mix, config), head_type_in_mix(mix, config)};
}

void require_gguf_base(const model_folder& model, const std::filesystem::path& base, const gguf_options& options) {
    require_types_for_rows(options, model.config());
    require_values(base_file(model.config(), base), model);
}

void write_gguf_model(const finished_model& quantized, const std::filesystem::path& base_path, const gguf_options& options,
                      const std::filesystem::path& out) {
    const model_folder& model = quantized.original;
    const llama_config& config = model.config();
    require_types_for_rows(options, config);
    const base_file base(config, base_path);
    require_values(base, model);
    const auto type_of = [&](const place& at) -> std::optional<magr::ggml_type> {
        if (at.role == role::weight) return type_in_mix(options.mix, config, at.block, at.kind).type;
        if (at.role == role::embedding) return options.embedding;
        return at.role == role::head ? options.head : std::nullopt;
    };
    const auto is_block_norm = [](const place& at) { return at.role == role::input_norm || at.role == role::post_attention_norm; };

    std::vector<gguf_entry> metadata = base.file().metadata();
    set_entry(metadata, gguf_number("general.file_type", traits_of(options.mix).file_type));
    set_entry(metadata, gguf_number("general.quantization_version", quantization_version));
    std::vector<gguf_tensor_info> tensors = base.file().tensors();
    for (gguf_tensor_info& tensor : tensors) {
        const auto at = base.find(tensor.name);
        if (at && is_block_norm(*at)) tensor.type = gguf_f32;
        if (at && type_of(*at)) tensor.type = static_cast<std::uint32_t>(*type_of(*at));
    }

    gguf_writer writer(out, metadata, tensors);
    const auto append = [&](const magr::gguf_tensor& packed) { writer.append(std::as_bytes(std::span(packed.data))); };
    for (const gguf_tensor_info& tensor : tensors) {
        const auto at = base.find(tensor.name);
        if (at && at->role == role::weight) {
            const auto row_of = [&](magr::index_t row) { return base.row_of(at->kind, row); };
            append(magr::pack_gguf(with_rows(quantized.layer(at->block, at->kind), row_of), *type_of(*at)));
        } else if (at && is_block_norm(*at)) {
            const llama_block block = quantized.block(at->block);
            append_floats(writer, at->role == role::input_norm ? block.input_norm : block.post_attention_norm);
        } else if (at && type_of(*at)) {
            const matrix_f W = at->role == role::head ? model.head() : model.embedding();
            constexpr Eigen::Index strip = 1024;  // rows, so that not all of the codes are in memory
            for (Eigen::Index first = 0; first < W.rows(); first += strip)
                append(rounded(W.middleRows(first, std::min(strip, W.rows() - first)), *type_of(*at)));
        } else {
            const std::span<const std::byte> bytes = base.file().bytes(tensor.name);
            writer.append(bytes);
            base.file().release(bytes);
        }
    }
    writer.commit();
}

}  // namespace examples
