// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <cstddef>
#include <ranges>
#include <span>
#include <type_traits>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Cuts the ids of a calibration text into sequences of one length: that which the model will see in use. Tokens that are left at the end
/// are dropped.
///
/// Cut ids, not activations, and run the model on each piece by itself: then attention and positions are those of short sequences. To cut
/// activations that were computed on long sequences changes nothing, because H is a sum over tokens.
///
/// @param tokens  a vector, array or span of integers, which must outlive the result
/// @return        floor(tokens / length) views of `length` ids each
/// @par Errors    option_error if length < 1
/// @par Cost      one allocation; no id is copied
/// @par Source    sequence-length-aware calibration (SLAC, arXiv 2311.05161)
template <std::ranges::contiguous_range Tokens>
    requires std::ranges::borrowed_range<Tokens> && std::integral<std::ranges::range_value_t<Tokens>>
[[nodiscard]] auto resegment(Tokens&& tokens, index_t length) {
    detail::require_option(length >= 1, "resegment", "length", "at least 1", length);
    const std::span<const std::ranges::range_value_t<Tokens>> ids(std::ranges::data(tokens), std::ranges::size(tokens));
    const auto size = static_cast<std::size_t>(length);
    std::vector<std::remove_const_t<decltype(ids)>> pieces(ids.size() / size);
    for (std::size_t k = 0; k < pieces.size(); ++k) pieces[k] = ids.subspan(k * size, size);
    return pieces;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
