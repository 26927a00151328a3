// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <magr/detail/philox.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Random objects drawn one after another from philox(0, stream, seed), philox(1, stream, seed), ..
///
/// @par Numerics  integers, conversions, divisions and square roots alone: the same bits on every platform with IEEE arithmetic
class random_stream {
public:
    random_stream(std::uint64_t seed, std::uint64_t stream) noexcept : seed_(seed), stream_(stream) {}

    [[nodiscard]] std::uint32_t bits() noexcept {
        if (used_ == word_.size()) {
            word_ = philox(block_++, stream_, seed_);
            used_ = 0;
        }
        return word_[used_++];
    }

    /// A uniform number of 0, .., n - 1.
    /// @pre  1 <= n <= 2^63
    [[nodiscard]] std::uint64_t below(std::uint64_t n) noexcept {
        std::uint64_t mask = n - 1;
        for (unsigned shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
        for (;;) {
            const std::uint64_t low = bits();
            const std::uint64_t high = mask >> 32 != 0 ? bits() : 0;
            const std::uint64_t value = (high << 32 | low) & mask;
            if (value < n) return value;
        }
    }

    /// A uniform permutation of 0, .., n - 1.
    [[nodiscard]] std::vector<index_t> permutation(index_t n) {
        std::vector<index_t> p(static_cast<std::size_t>(n));
        for (std::size_t k = 0; k < p.size(); ++k) {
            const auto other = static_cast<std::size_t>(below(k + 1));
            p[k] = p[other];
            p[other] = static_cast<index_t>(k);
        }
        return p;
    }

    /// A uniform direction in n dimensions. Its length is 1 up to rounding if n is even, and in (0, 1] otherwise.
    ///
    /// The squared lengths of the planes of (x_0, x_1), (x_2, x_3), .. have the law of the gaps between sorted uniform numbers, and the
    /// direction in each plane is uniform. Of an odd dimension, the last number of one more is dropped.
    [[nodiscard]] std::vector<double> direction(index_t n) {
        std::vector<std::uint64_t> cuts(static_cast<std::size_t>((n + 1) / 2));
        for (std::size_t k = 0; k + 1 < cuts.size(); ++k) cuts[k] = below(whole);
        cuts.back() = whole;
        std::sort(cuts.begin(), cuts.end());
        std::vector<double> x;
        x.reserve(2 * cuts.size());
        std::uint64_t last = 0;
        for (const std::uint64_t cut : cuts) {
            const double length = std::sqrt(static_cast<double>(cut - last)) * 0x1p-31;
            const auto [cosine, sine] = circle();
            x.push_back(length * cosine);
            x.push_back(length * sine);
            last = cut;
        }
        x.resize(static_cast<std::size_t>(n));
        if (std::all_of(x.begin(), x.end(), [](double value) { return value == 0; })) return direction(n);
        return x;
    }

private:
    static constexpr std::uint64_t whole = std::uint64_t{1} << 62;

    /// A point of the unit circle: that of a point of the unit disc which is not too near to its centre.
    [[nodiscard]] std::pair<double, double> circle() noexcept {
        for (;;) {
            const auto x = static_cast<std::int64_t>(below(std::uint64_t{1} << 32)) - (std::int64_t{1} << 31);
            const auto y = static_cast<std::int64_t>(below(std::uint64_t{1} << 32)) - (std::int64_t{1} << 31);
            const auto square = static_cast<std::uint64_t>(x * x) + static_cast<std::uint64_t>(y * y);
            if (square > whole || square < whole >> 20) continue;
            const double length = std::sqrt(static_cast<double>(square));
            return {static_cast<double>(x) / length, static_cast<double>(y) / length};
        }
    }

    std::uint64_t seed_, stream_;
    std::uint64_t block_ = 0;
    std::array<std::uint32_t, 4> word_{};
    std::size_t used_ = 4;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
