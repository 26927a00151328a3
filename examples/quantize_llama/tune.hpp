// SPDX-License-Identifier: MIT
#pragma once

#include <magr/parallel/thread_pool.hpp>
#include <span>
#include <vector>

#include "common/progress.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/quantize_model.hpp"
#include "quantize_llama/tokens.hpp"

namespace examples {

/// How often `tune_scales` goes through the text and keeps what that has changed.
inline constexpr int tuning_epochs = 3;

/// How many passes over the text `tune_scales` reports: two to measure where it begins; of each epoch forward, twice as much backward, and
/// one to measure what it has changed. What is taken back is no longer reported.
inline constexpr int tuning_passes = 2 + 4 * tuning_epochs;

/// How far a step of Adam changes scales, at most, in units of the error of rounding. Steps that do not depend on it are too long where
/// grids are fine: they fit the calibration text, and lead away from the original model on any other.
inline constexpr double tuning_rate = 1.0 / 64;

/// Tunes the scales of all grids and the weights of the blocks' norms together, so that the predictions of the quantized model come closer
/// to those of the original: Adam on the KL divergence over the calibration text. Codes stay as they are, so no file has to know; of
/// scales that are products of shared ones, the shared ones change.
///
/// An epoch after which the divergence over that text is not lower than before is taken back, and tried again with steps a fourth as long;
/// there are at most twice as many attempts as epochs.
///
/// The whole model is in memory, and the hidden states of a few texts in front of each block.
/// @param blocks  with codes and grids in each layer
/// @param pool    does not influence the result
/// @return whether any epoch was kept; otherwise blocks stay as they are
[[nodiscard]] bool tune_scales(const model_folder& model, std::vector<quantized_block>& blocks, std::span<const sequence> text,
                               magr::thread_pool& pool, progress& progress, double rate = tuning_rate);

}  // namespace examples
