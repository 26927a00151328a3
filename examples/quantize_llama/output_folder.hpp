// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/files.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/output_format.hpp"
#include "quantize_llama/quantize_model.hpp"
#include "quantize_llama/safetensors.hpp"
#include "quantize_llama/tokens.hpp"

namespace examples {

/// A block that a run has written.
struct finished_block {
    llama_block block;
    std::vector<layer_record> layers;
};

/// The folder that a run writes as it goes, and from which it goes on after it was killed.
///
///   quantization.json                    what the run is: program, model, options, calibration text; the first file that is written
///   config.json, tokenizer.json, ...     copies
///   model-00001-of-00007.safetensors     embedding, last norm and head as they were
///   model-00002-of-00007.safetensors     block 0: dequantized weights; everything else as it was. Or packed weights, and
///                                        everything else in the type of --out-dtype
///   codes/block-00000.safetensors        block 0: codes and grids
///   codes/block-00000.json               block 0: the record of its layers, size and hash of its files; the last of them, so that it says
///                                        that the block is done
///   model.safetensors.index.json         the last file of all, without which no reader takes the folder for a model
///
/// A format that has files of its own has these in place of all that begin with "model", of config.json and of the tokenizer; what is in a
/// block besides its linear layers is then in codes/block-00000-rest.safetensors.
///
/// Each file is written under another name, and gets its own when all of it is on the disk. Nothing that an earlier run has left is used or
/// called finished unless its contents are those that were written: what was lost or damaged since is named and made again.
class output_folder {
public:
    /// Gets a line for each file that was lost or damaged: its name and the reason. What an interrupted run has not come to is no loss.
    using damage_observer = std::function<void(const std::string&)>;

    /// Claims a folder: a new or empty one, or one that such a run has left.
    /// @param beside  other files that this run writes, which may lie in the folder
    /// @throws input_error  if it holds anything else, another run uses it, it cannot be made, or a file of the model would have the name
    ///                      of one of `beside`
    explicit output_folder(
        const std::filesystem::path& folder, std::span<const std::filesystem::path> beside = {},
        damage_observer damaged = [](const std::string&) {});

    /// Begins the run, or takes up the one that is here. The model must outlive the object.
    /// @pre                 `require_format` passes
    /// @throws input_error  if the run that is here is another one, saying what differs; if a weight is too large for the type that it is
    ///                      stored in
    void begin(const model_folder& model, std::span<const sequence> calibration, const quantization& how, const output_settings& settings);

    /// A block that an earlier run has written, if all of its files are there and as they were.
    [[nodiscard]] std::optional<finished_block> read(std::int64_t layer) const;

    /// Rounds what is stored as numbers of a type, so that who goes on with the block sees what a reader of the folder will see: of
    /// dequantized weights these, of packed ones all others.
    /// @throws std::runtime_error  if a weight is too large for that type
    void round_as_stored(llama_block& block) const;

    /// Writes a block, which is first rounded as above.
    /// @throws std::runtime_error  likewise
    void write(std::int64_t layer, quantized_block& block);

    /// Ends the run, when all blocks are done.
    void complete() const;

private:
    [[nodiscard]] bool is_dequantized() const;
    [[nodiscard]] magr::storage_type rest_type() const;
    [[nodiscard]] file_digest write_dequantized(std::int64_t layer, quantized_block& block) const;
    [[nodiscard]] file_digest write_packed(std::int64_t layer, quantized_block& block) const;
    [[nodiscard]] llama_block read_packed_block(std::int64_t layer) const;
    void write_index() const;
    [[nodiscard]] std::filesystem::path weights_file(std::int64_t part) const;
    [[nodiscard]] std::filesystem::path block_file(std::int64_t layer, const char* extension) const;
    void look_around();
    void copy_model_files() const;
    void write_again(const std::filesystem::path& file, const std::string& text) const;
    void unfinish() const;
    void prepare_to_replace(const std::filesystem::path& file) const;
    void report(const std::filesystem::path& file, const std::string& reason) const;
    [[nodiscard]] bool is_as_written(const std::filesystem::path& file, const file_digest& digest) const;

    std::filesystem::path path_;
    folder_claim claim_;
    damage_observer damaged_;
    std::int64_t blocks_before_ = 0;    ///< an earlier run has finished this many blocks, and all that comes before them
    std::optional<std::string> index_;  ///< contents of the index that an earlier run has left
    const model_folder* model_ = nullptr;
    quantization how_;
    output_settings settings_;
    bool is_tuned_ = false;  ///< whether norms change as well
};

/// The files of a model's folder that belong to the tokenizer or say how texts are generated: what transformers and vLLM read besides
/// config.json and the weights. Paths from the folder on.
/// @throws input_error  if the folder cannot be read
[[nodiscard]] std::vector<std::filesystem::path> companions(const std::filesystem::path& folder);

}  // namespace examples
