// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/convert.hpp>
#include <magr/kernels/packed_product.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/simd/pack.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// H + damping * mean(diag H) I with its columns in another order, in double. Dead columns stay zero and do not enter the mean.
/// @param H       of a `live_gram`
[[nodiscard]] inline row_major_matrix<double> load_damped(const matrix_ref& H, std::span<const index_t> order, double damping,
                                                          executor_ref exec) {
    const index_t n = H.cols();
    row_major_matrix<double> out(n, n);
    const double added = damping * find_live_columns(H, 0).mean;
    std::vector<index_t> position(static_cast<std::size_t>(n));
    const auto column = [&](index_t k) { return order[static_cast<std::size_t>(k)]; };
    for (index_t k = 0; k < n; ++k) position[static_cast<std::size_t>(column(k))] = k;
    constexpr index_t side = 32;
    const index_t strips = (n + side - 1) / side;
    // Row by row what the lower triangle of H has, then the other half in squares that stay in the cache.
    exec.parallel_for(strips, [&](index_t strip, index_t) {
        std::vector<double> row(static_cast<std::size_t>(n));
        for (index_t k = strip * side; k < (std::min)((strip + 1) * side, n); ++k) {
            const index_t a = column(k);
            H.load_row(a, 0, a + 1, row.data());
            for (index_t b = 0; b <= a; ++b) out(k, position[static_cast<std::size_t>(b)]) = row[static_cast<std::size_t>(b)];
            if (out(k, k) > 0) out(k, k) += added;
        }
    });
    exec.parallel_for(strips, [&](index_t strip, index_t) {
        for (index_t l0 = 0; l0 <= strip * side; l0 += side)
            for (index_t k = strip * side; k < (std::min)((strip + 1) * side, n); ++k)
                for (index_t l = l0; l < (std::min)(l0 + side, k); ++l) {
                    if (column(k) > column(l))
                        out(l, k) = out(k, l);
                    else
                        out(k, l) = out(l, k);
                }
    });
    return out;
}

/// Numbers in a few places of a matrix, row by row.
struct sparse_rows {
    std::vector<index_t> rows;     ///< that have any
    std::vector<index_t> ends;     ///< for each of these: the number of elements in it and in those before it
    std::vector<index_t> columns;  ///< of the elements
    std::vector<double> values;

    void clear() noexcept {
        rows.clear();
        ends.clear();
        columns.clear();
        values.clear();
    }
};

/// A symmetric matrix, packed once as the right operand of products E H. It also keeps an unpacked copy of the squares on its diagonal.
class packed_gram {
    using arch = simd::default_arch;
    using tile = kernels::register_tile<double, arch>;
    static constexpr index_t depth = kernels::product_blocks<double, arch>::depth;

public:
    static constexpr index_t square = 64;  ///< side of the squares on the diagonal

    /// Bytes that it allocates.
    [[nodiscard]] static constexpr std::size_t bytes(index_t n) noexcept {
        return static_cast<std::size_t>((kernels::round_up(n, tile::cols) + square) * n) * sizeof(double);
    }

    packed_gram(const row_major_matrix<double>& H, executor_ref exec)
        : columns_(H.rows()),
          width_(kernels::round_up(H.rows(), tile::cols)),
          packed_(width_ * H.rows()),
          squares_(col_major_matrix<double>::Zero(square, H.rows())) {
        exec.parallel_for(width_ / tile::cols, [&](index_t task, index_t) {
            const index_t j = task * tile::cols;
            for (index_t k0 = 0; k0 < columns_; k0 += depth) {
                const index_t d = (std::min)(depth, columns_ - k0);
                const auto transposed = as_const_view(H).block(j, k0, (std::min)(tile::cols, columns_ - j), d);  // H is symmetric
                kernels::pack_panel<tile::cols>(transposed, 1.0, packed_.data() + k0 * width_ + j * d);
            }
        });
        for (index_t first = 0; first < columns_; first += square) {
            const index_t size = (std::min)(square, columns_ - first);
            squares_.block(0, first, size, size) = H.block(first, first, size, size);
        }
    }

    [[nodiscard]] index_t cols() const noexcept { return columns_; }
    [[nodiscard]] double diagonal(index_t k) const noexcept { return squares_(k % square, k); }
    /// Column k of its square on the diagonal: the elements from row k - k % square on, and zeros behind the last row of H.
    [[nodiscard]] const double* own_column(index_t k) const noexcept { return squares_.data() + k * square; }

    /// The number of elements of scratch memory that a product of this many rows needs.
    [[nodiscard]] static constexpr index_t scratch_size(index_t rows) noexcept { return kernels::round_up(rows, tile::rows) * depth; }

    /// G <- G + E H', where H' are as many rows of H as E has columns, beginning with `first`.
    void add_product(matrix_view<const double> E, index_t first, matrix_view<double> G, double* scratch) const noexcept {
        add_product(E, first, 0, G, scratch);
    }

    /// G <- G + E H, where all elements of E are in the same `square` columns.
    ///
    /// @par Numerics  the bits of the product of E as a dense matrix: zeros do not change a sum
    void add_product(const sparse_rows& E, matrix_view<double> G) const noexcept {
        if (E.rows.empty()) return;
        using traits = simd::pack_traits<double, arch>;
        static_assert(depth % square == 0);
        const index_t k0 = E.columns[0] - E.columns[0] % depth, d = (std::min)(depth, columns_ - k0);
        for (index_t j = 0; j < columns_; j += tile::cols) {
            const double* const panel = packed_.data() + k0 * width_ + j * d;
            std::size_t at = 0;
            for (std::size_t r = 0; r < E.rows.size(); ++r) {
                auto first = traits::broadcast(0), last = first;
                for (const auto end = static_cast<std::size_t>(E.ends[r]); at < end; ++at) {
                    const double* const row = panel + (E.columns[at] - k0) * tile::cols;
                    const auto value = traits::broadcast(E.values[at]);
                    first = simd::fma(value, traits::load(row), first);
                    last = simd::fma(value, traits::load(row + traits::lanes), last);
                }
                double* const out = G.data() + E.rows[r] * G.row_stride() + j;
                if (j + tile::cols <= columns_) {
                    simd::store(out, traits::load(out) + first);
                    simd::store(out + traits::lanes, traits::load(out + traits::lanes) + last);
                } else {
                    double sums[tile::cols];
                    simd::store(sums, first);
                    simd::store(sums + traits::lanes, last);
                    for (index_t c = 0; c < columns_ - j; ++c) out[c] += sums[c];
                }
            }
        }
    }

    /// The product of E with as many rows and columns of H as E has columns, beginning with `first`.
    [[nodiscard]] row_major_matrix<double> own_product(matrix_view<const double> E, index_t first, double* scratch) const {
        const index_t begin = first - first % tile::cols;  // the first column of its tile
        row_major_matrix<double> product = row_major_matrix<double>::Zero(E.rows(), first + E.cols() - begin);
        add_product(E, first, begin, as_view(product), scratch);
        return product.rightCols(E.cols());
    }

private:
    /// The same for as many columns of H as G has, beginning with `begin`, a multiple of tile::cols.
    void add_product(matrix_view<const double> E, index_t first, index_t begin, matrix_view<double> G, double* scratch) const noexcept {
        for (index_t done = 0; done < E.cols();) {
            const index_t k = first + done, k0 = k - k % depth, d = (std::min)(depth, columns_ - k0);
            const index_t count = (std::min)(E.cols() - done, k0 + d - k);
            for (index_t i = 0; i < E.rows(); i += tile::rows)
                kernels::pack_panel<tile::rows>(E.block(i, done, (std::min)(tile::rows, E.rows() - i), count), 1.0, scratch + i * d);
            kernels::multiply_panels(G, count, scratch, packed_.data() + k0 * width_ + begin * d + (k - k0) * tile::cols, d);
            done += count;
        }
    }

    index_t columns_;
    index_t width_;  // rounded up to whole tiles
    aligned_buffer<double> packed_;
    col_major_matrix<double> squares_;
};

/// H + damping mean(diag H) I in this order. H remembers it.
template <int Instance = 0>  // compiled only where it is called
[[nodiscard]] const packed_gram& damped_gram(const hessian& H, std::span<const index_t> order, double damping, executor_ref exec) {
    std::vector<double> key{damping};
    if (!std::is_sorted(order.begin(), order.end())) key.insert(key.end(), order.begin(), order.end());
    return H.remember<packed_gram>(key, [&] { return packed_gram(load_damped(H.live().view(), order, damping, exec), exec); });
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
