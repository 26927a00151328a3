// SPDX-License-Identifier: MIT
// Converts results of the library to words and numbers of the record.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <magr/magr.hpp>

#include "recorder.hpp"

namespace record {

inline const char* word_of(magr::factor_precision precision) { return precision == magr::factor_precision::float64 ? "f64" : "f32"; }

template <class Scalar>
void add_grids(results& out, const magr::weight_grids<Scalar>& grids) {
    out.add("bits", grids.bits);
    out.add("zero_point", to_string(grids.zero_point));
    out.add("storage", to_string(grids.storage));
    out.add("group_size", grids.group_size);
    out.add("scales", grids.scales);
    out.add("zeros", grids.zeros);
    out.add("group_of_column", std::vector<std::int64_t>(grids.group_of_column.begin(), grids.group_of_column.end()));
    if (!grids.levels.empty()) out.add("levels", grids.levels);
    if (grids.shared.groups == 0) return;
    out.add("shared.groups", grids.shared.groups);
    out.add("shared.scales", grids.shared.scales);
    out.add("shared.offsets", grids.shared.offsets);
    out.add("shared.scale_codes", grids.shared.scale_codes);
    out.add("shared.offset_codes", grids.shared.offset_codes);
}

template <class Scalar>
void add_quantized(results& out, const magr::quantized_matrix<Scalar>& q) {
    if (q.codes.empty()) return out.add("codes", "none");
    add_grids(out, q);
    out.add("codes", q.codes);
    out.add("weights", q.dequantize());
}

inline void add_limits(results& out, const magr::storage_limits& limits) {
    out.add("limits.largest", limits.largest);
    out.add("limits.smallest", limits.smallest);
    out.add("limits.subnormal", limits.subnormal);
}

inline void add_preprocess(results& out, const magr::preprocess_result& r, const std::string& of = "") {
    out.add(of + "stopped", to_string(r.stopped));
    out.add(of + "iterations", r.iterations);
    out.add(of + "products", r.products);
    out.add(of + "objective", r.objective);
    out.add(of + "objective_before", r.objective_before);
    out.add(of + "gap", r.gap);
    out.add(of + "largest_gap", r.largest_gap);
    out.add(of + "mean_gap", r.mean_gap);
    out.add(of + "linf_before", r.linf_before);
    out.add(of + "linf_after", r.linf_after);
    out.add(of + "mean_linf_before", r.mean_linf_before);
    out.add(of + "mean_linf_after", r.mean_linf_after);
    out.add(of + "output_error", r.output_error);
    out.add(of + "alpha", r.alpha);
    out.add(of + "damping", r.damping);
    out.add(of + "rho", r.rho);
    out.add(of + "directions", r.directions);
    out.add(of + "rows_in_double", r.rows_in_double);
    out.add(of + "lambda_max", r.lambda_max);
}

inline void add_optq(results& out, const magr::optq_report& r, const std::string& of = "") {
    out.add(of + "status", to_string(r.status));
    out.add(of + "damping", r.damping);
    out.add(of + "diagonal_floor", r.diagonal_floor);
    out.add(of + "attempts", r.attempts);
    out.add(of + "precision", word_of(r.precision));
    out.add(of + "dead_columns", r.dead_inputs);
    out.add(of + "clipped", r.clipped);
    out.add(of + "loss", r.loss.value_or(0));
    out.add(of + "loss_bound", r.loss_bound.value_or(0));
    out.add(of + "output_error", r.output_error.value_or(std::numeric_limits<double>::quiet_NaN()));
    out.add(of + "bound_held", r.bound_held());
}

inline void add_refinement(results& out, const magr::refinement_result& r, const std::string& of = "") {
    out.add(of + "passes", r.passes);
    out.add(of + "changes", r.changes);
    out.add(of + "loss_before", r.loss_before);
    out.add(of + "loss_after", r.loss_after);
}

template <class Scalar>
void add_layer(results& out, const magr::layer_result<Scalar>& r) {
    out.add("status", to_string(r.status));
    out.add("tokens", r.tokens);
    out.add("dead_columns", r.dead_inputs);
    if (r.preprocess) add_preprocess(out, *r.preprocess, "preprocess.");
    if (r.optq) add_optq(out, *r.optq, "optq.");
    if (r.refinement) add_refinement(out, *r.refinement, "refinement.");
    out.add("clipped", r.clipped);
    add_limits(out, r.limits);
    out.add("output_error_rtn", r.output_error_rtn.value_or(0));
    out.add("output_error_preprocessed", r.output_error_preprocessed.value_or(0));
    out.add("output_error", r.output_error.value_or(0));
    add_quantized(out, r.quantized);
}

template <class Scalar>
void add_automatic(results& out, const magr::automatic_result<Scalar>& r) {
    out.add("chosen", r.chosen);
    out.add("validation_error", r.validation_error.value_or(0));
    for (std::size_t k = 0; k < r.candidates.size(); ++k) {
        const magr::automatic_candidate& candidate = r.candidates[k];
        const std::string of = "candidate" + std::to_string(k) + ".";
        out.add(of + "alpha", candidate.alpha);
        out.add(of + "damping", candidate.damping);
        out.add(of + "beta", candidate.range_factor);
        out.add(of + "output_error", candidate.output_error.value_or(std::numeric_limits<double>::infinity()));
        out.add(of + "refined_error", candidate.refined_error);
    }
    add_layer(out, r.layer);
}

}  // namespace record
