// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/pack/format.hpp>
#include <magr/quantize_layer.hpp>

namespace magr {

/// Rows and columns of a weight matrix.
struct matrix_shape {
    index_t rows;
    index_t cols;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every reason why `quantize_layer` with these options would refuse a matrix of this shape, or why its result could not be packed in the
/// format; empty if there is none.
///
/// Call this for every layer of a model before starting hours of work. It cannot know what depends on the weights: `pack_gptq` refuses a
/// zero point of 0 in version v1.
///
/// @par Cost      O(1)
[[nodiscard]] inline std::vector<std::string> problems(matrix_shape shape, const layer_options& options,
                                                       std::optional<packed_format> format = std::nullopt) {
    std::vector<std::string> found = problems(options);
    if (!format) {
        detail::problem_list own("matrix_shape");
        own.require(shape.rows >= 1, "rows", "at least 1", shape.rows);
        own.require(shape.cols >= 1, "cols", "at least 1", shape.cols);
        for (std::string& problem : own.take()) found.push_back(std::move(problem));
        return found;
    }
    for (std::string& problem : problems(*format, shape.rows, shape.cols, options.grid)) found.push_back(std::move(problem));
    if (!detail::is_enumerator(*format)) return found;

    const detail::format_rules rules = detail::rules_of(*format);
    const zero_point zero = options.grid.zero_point;
    const auto require = [&](bool holds, const char* what) {
        if (!holds) found.push_back(detail::concat(to_string(*format), ": ", what));
    };
    require(!rules.two_level, "grids must come from fit_k_quant_grids, which quantize_layer does not call");
    const bool middle_codes_only = rules.groups == detail::group_rule::multiple && !rules.two_level;
    require(!middle_codes_only || zero != zero_point::integer,
            "zero_point must be none, because the format holds only the two middle codes; it is integer");
    require(*format != packed_format::mlx || zero == zero_point::offset,
            "zero_point must be offset, because -scale * zero is seldom exact in the storage type; it is not");
    const bool scattered = options.quantizer == quantizer::optq && options.optq.order == column_order::act_order &&
                           options.optq.groups != group_update::fixed && options.grid.group_size.value_or(shape.cols) < shape.cols;
    const bool stores_groups =
        *format == packed_format::gptq_v1 || *format == packed_format::gptq_v2 || *format == packed_format::compressed_tensors;
    require(!scattered || stores_groups,
            "groups must be of neighbouring columns; with act_order they must be fixed, or the order must be group_aware");
    return found;
}

/// Throws if there are problems.
/// @par Errors    option_error, with all of them
inline void validate(matrix_shape shape, const layer_options& options, std::optional<packed_format> format = std::nullopt) {
    detail::refuse_problems(problems(shape, options, format));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
