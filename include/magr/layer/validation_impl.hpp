// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/layer/validation.hpp>
#include <magr/pack/format_rules.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(matrix_shape shape, const layer_options& options, std::optional<packed_format> format) {
    std::vector<std::string> found = problems(options);
    if (!format) {
        detail::problem_list own("matrix_shape");
        own.add_all(found);
        own.require(shape.rows >= 1, "rows", "at least 1", shape.rows);
        own.require(shape.cols >= 1, "cols", "at least 1", shape.cols);
        return own.take();
    }
    for (std::string& problem : problems(shape, options.grid, *format)) found.push_back(std::move(problem));
    if (!detail::is_enumerator(*format)) return found;

    const detail::format_rules rules = detail::rules_of(*format);
    const zero_point zero = options.grid.zero_point;
    const auto require = [&](bool holds, const char* what) {
        if (!holds) found.push_back(detail::concat(to_string(*format), ": ", what));
    };
    require(!rules.two_level, "grids must come from fit_k_quant_grids, which quantize_layer does not call");
    const bool middle_codes_only = rules.groups == detail::group_rule::multiple && !rules.two_level;
    require(!middle_codes_only || zero != zero_point::integer,
            "zero_point must be none or middle, because the format holds only the two middle codes; it is integer");
    require(*format != packed_format::mlx || zero == zero_point::offset,
            "zero_point must be offset, because -scale * zero is seldom exact in the storage type; it is not");
    const bool scattered = options.quantizer == layer_quantizer::optq && options.optq.order == column_order::act_order &&
                           options.optq.groups != group_update::fixed && options.grid.group_size.value_or(shape.cols) < shape.cols;
    const bool stores_groups =
        *format == packed_format::gptq_v1 || *format == packed_format::gptq_v2 || *format == packed_format::compressed_tensors;
    require(!scattered || stores_groups,
            "groups must be of neighbouring columns; with act_order they must be fixed, or the order must be group_aware");
    return found;
}

MAGR_CORE void validate(matrix_shape shape, const layer_options& options, std::optional<packed_format> format) {
    detail::refuse_problems(problems(shape, options, format));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
