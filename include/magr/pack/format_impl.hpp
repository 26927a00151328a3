// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <optional>
#include <string>
#include <vector>

#include <magr/pack/format.hpp>
#include <magr/pack/format_rules.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(matrix_shape shape, const grid_options& options, packed_format format) {
    auto found = detail::problems_of(to_string(format), format, shape.rows, shape.cols, options);
    for (const std::string& problem : found.of_options) found.of_shape.push_back(problem);
    return found.of_shape;
}

MAGR_CORE grid_options grid_options_for(packed_format format, std::optional<index_t> group_size) {
    const detail::format_rules rules = detail::rules_of(format);
    grid_options options;
    options.bits = rules.bits.has(4) ? 4 : std::countr_zero(rules.bits.members);
    options.group_size = group_size.value_or(rules.group_size);
    options.zero_point = rules.zeros.has(zero_point::offset)   ? zero_point::offset
                         : rules.zeros.has(zero_point::middle) ? zero_point::middle
                         : format == packed_format::gptq_v1    ? zero_point::none  // it cannot hold the zero point 0
                                                               : zero_point::integer;
    options.storage =
        rules.storages.has(storage_type::f16) && format != packed_format::matmul_nbits ? storage_type::f16 : storage_type::f32;
    return options;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
