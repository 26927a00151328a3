// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/kernels/packed_product.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/sequential/row_strips.hpp>
#include <magr/sequential/sequential_refs.hpp>
#include <magr/sequential/sequential_sums.hpp>
#include <magr/sequential/sequential_window.hpp>
#include <magr/simd/pack.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Quantization of rows that feeds errors through T, and what is measured on the way: T packed once, and a tile of rows at a time.
///
/// A tile of rows is a task. Its part of W stays in the second and third level of cache, while T passes by: 128 columns of T (or as many as
/// a block has) times 384 of W at a time.
template <compute_scalar Scalar>
class sequential_pass {
public:
    /// Bytes that a pass over so many rows allocates, at most.
    [[nodiscard]] static std::size_t bytes(index_t rows, index_t n, index_t block_size, index_t workers) {
        const index_t block = (std::min)(block_size, n);
        const index_t panels = n / tile::rows + n / block + 1, tiles = (rows + tile_rows - 1) / tile_rows;
        const auto lists =
            static_cast<std::size_t>(2 * panels) * sizeof(panel) + static_cast<std::size_t>(tiles + 2) * sizeof(sequential_sums);
        const index_t numbers = packed_size(n, block) + workers * working_memory::size(n, kernels::round_up(block, tile::rows));
        const index_t sums = (tiles + 1) * sequential_sums::per_column * n;
        return lists + static_cast<std::size_t>(numbers) * sizeof(Scalar) + static_cast<std::size_t>(sums) * sizeof(double);
    }

    /// Bytes that `sequential_window::least_squares_weights` allocates for each worker, at most.
    [[nodiscard]] static std::size_t least_squares_bytes(index_t rows, index_t n, index_t block_size, index_t group_size) {
        const index_t height = (std::min)(tile_rows, rows), width = (std::min)(block_size + group_size, n) + (std::min)(group_size, n);
        return static_cast<std::size_t>(height * width + kernels::product_blocks<Scalar, simd::default_arch>::scratch_for(height)) *
               sizeof(Scalar);
    }

    /// @param feedback    T^T, n x n with contiguous rows, unit lower triangular; it must outlive this
    /// @param block_size  columns whose feedback from all before them is one product
    sequential_pass(matrix_view<const Scalar> feedback, index_t block_size, executor_ref exec)
        : feedback_(feedback), block_size_((std::min)(block_size, feedback.cols())), packed_(packed_size(feedback.cols(), block_size_)) {
        const index_t n = feedback_.cols();
        index_t size = 0;
        for (index_t begin = 0; begin < n; begin += block_size_)
            for (index_t first = begin; first < block_end(begin); first += tile::rows) {
                panels_.push_back({first, (std::min)(tile::rows, block_end(begin) - first), size});
                size += tile::rows * panels_.back().end();
            }
        exec.parallel_for(static_cast<index_t>(panels_.size()), [&](index_t p, index_t) {
            const panel& target = panels_[static_cast<std::size_t>(p)];
            kernels::pack_panel<tile::rows>(feedback_.block(target.first, 0, target.width, target.end()), 1.0,
                                            packed_.data() + target.offset);
        });
    }

    /// As `magr::quantize_sequentially`, of weights that come from anywhere and go nowhere.
    /// @param load      load(first row, row count, strip) writes `row_strips::height` weights of each column in order, zeros for rows that
    ///                  are missing
    /// @param finish    finish(first row, row count, strip) reads W - Q of these rows
    /// @param measured  whether to compute `sequential_sums::energies`, which takes as long as the quantization
    template <class Quantizer>
    [[nodiscard]] sequential_sums run(index_t rows, strip_function_ref<Scalar> load, Quantizer& quantizer,
                                      strip_function_ref<Scalar> finish, bool measured, executor_ref exec) const {
        return run_any(rows, load, column_quantizer_ref<Scalar>(quantizer), finish, measured, exec);
    }

private:
    using tile = kernels::register_tile<Scalar, simd::default_arch>;
    using strips_type = row_strips<Scalar>;
    static constexpr index_t tile_rows = 256;
    static_assert(tile_rows % strips_type::height == 0);

    [[nodiscard]] sequential_sums run_any(index_t rows, strip_function_ref<Scalar> load, column_quantizer_ref<Scalar> quantizer,
                                          strip_function_ref<Scalar> finish, bool measured, executor_ref exec) const {
        const index_t n = feedback_.cols(), block = kernels::round_up(block_size_, tile::rows), size = working_memory::size(n, block);
        const index_t tiles = (rows + tile_rows - 1) / tile_rows;
        const aligned_buffer<Scalar> data(exec.concurrency() * size);
        std::vector<sequential_sums> of_tiles(static_cast<std::size_t>(tiles), sequential_sums(n));
        exec.parallel_for(tiles, [&](index_t task, index_t worker) {
            const working_memory memory(data.data() + worker * size, n, block);
            const index_t first_row = task * tile_rows, count = (std::min)(tile_rows, rows - first_row);
            sequential_sums& sums = of_tiles[static_cast<std::size_t>(task)];
            const auto for_each_strip = [&](const auto& f) {
                for (index_t row = 0; row < count; row += strips_type::height)
                    f(first_row + row, (std::min)(strips_type::height, count - row), memory.residual.column(row / strips_type::height, 0));
            };
            for_each_strip(load);
            if (measured) {
                measure(memory, strips_of(count), sums.energies);
                add_squares(memory, strips_of(count), sums.weights);
            }
            quantize_rows(memory, first_row, count, quantizer, sums.rounding_errors);
            if (measured) add_squares(memory, strips_of(count), sums.residuals);
            for_each_strip(finish);
        });
        sequential_sums sums(n);
        for (const sequential_sums& part : of_tiles) sums += part;
        return sums;
    }

    /// Columns first..end()-1 of T, the rows before end() of them, packed as a left operand of register tiles.
    struct panel {
        index_t first;
        index_t width;   // at most tile::rows
        index_t offset;  // where it begins
        [[nodiscard]] index_t end() const noexcept { return first + width; }
    };

    /// Of one worker.
    struct working_memory {
        strips_type residual;  // W, then W - Q: all columns
        strips_type carried;   // the feedback of earlier blocks: the columns of a block, and room for a whole panel at its end
        strips_type sums;      // the same and the feedback of the block itself: the columns of a panel
        Scalar* weights;       // of one column
        Scalar* rounded;

        working_memory(Scalar* data, index_t n, index_t block)
            : residual{data, n},
              carried{data + tile_rows * n, block},
              sums{data + tile_rows * (n + block), tile::rows},
              weights(data + tile_rows * (n + block + tile::rows)),
              rounded(weights + tile_rows) {}
        [[nodiscard]] static index_t size(index_t n, index_t block) noexcept { return tile_rows * (n + block + tile::rows + 2); }
    };

    [[nodiscard]] static index_t strips_of(index_t rows) noexcept { return (rows + strips_type::height - 1) / strips_type::height; }
    [[nodiscard]] index_t block_end(index_t begin) const noexcept { return (std::min)(begin + block_size_, feedback_.cols()); }
    [[nodiscard]] static index_t packed_size(index_t n, index_t block_size) noexcept {
        index_t size = 0;
        for (index_t begin = 0; begin < n; begin += block_size)
            for (index_t first = begin; first < (std::min)(begin + block_size, n); first += tile::rows)
                size += tile::rows * (std::min)({first + tile::rows, begin + block_size, n});
        return size;
    }
    /// value(0)^2 + ... + value(count - 1)^2, in several sums side by side.
    template <class F>
    [[nodiscard]] static double sum_of_squares(index_t count, const F& value) {
        constexpr index_t lanes = 8;
        double sums[lanes] = {};
        const index_t whole = count - count % lanes;
        for (index_t i = 0; i < whole; i += lanes)
            for (index_t l = 0; l < lanes; ++l) {
                const auto x = static_cast<double>(value(i + l));
                sums[l] += x * x;
            }
        double sum = 0;
        for (index_t i = whole; i < count; ++i) sum += static_cast<double>(value(i)) * static_cast<double>(value(i));
        for (const double part : sums) sum += part;
        return sum;
    }

    /// Of one column of a strip.
    [[nodiscard]] static double squared_norm(const Scalar* values) {
        return sum_of_squares(strips_type::height, [&](index_t i) { return values[i]; });
    }

    /// f(first column, panels) for each block.
    template <class F>
    void for_each_block(const F& f) const {
        auto first = panels_.begin();
        for (index_t begin = 0; begin < feedback_.cols(); begin += block_size_) {
            const auto last = std::find_if(first, panels_.end(), [&](const panel& p) { return p.first >= block_end(begin); });
            f(begin, std::span<const panel>(first, last));
            first = last;
        }
    }

    /// to <- to + residual T in rows j0..j1-1 and the columns of a panel, for one strip.
    void multiply_panel(const panel& columns, index_t j0, index_t j1, index_t s, const working_memory& memory, Scalar* to) const noexcept {
        kernels::multiply_tile(j1 - j0, packed_.data() + columns.offset + j0 * tile::rows, memory.residual.column(s, j0), to,
                               strips_type::height, simd::default_arch{});
    }

    /// carried <- residual T in the rows of T before a block, and its columns.
    void multiply_before(index_t begin, std::span<const panel> panels, index_t strips, const working_memory& memory) const noexcept {
        constexpr index_t depth = kernels::product_blocks<Scalar, simd::default_arch>::depth;
        std::fill_n(memory.carried.data, strips * memory.carried.columns * strips_type::height, Scalar(0));
        for (index_t j = 0; j < begin; j += depth)
            for (index_t s = 0; s < strips; ++s)
                for (const panel& to : panels)
                    multiply_panel(to, j, (std::min)(j + depth, begin), s, memory, memory.carried.column(s, to.first - begin));
    }

    void measure(const working_memory& memory, index_t strips, std::vector<double>& energies) const {
        for_each_block([&](index_t begin, std::span<const panel> panels) {
            multiply_before(begin, panels, strips, memory);
            for (index_t s = 0; s < strips; ++s)
                for (const panel& to : panels) {
                    Scalar* const product = memory.carried.column(s, to.first - begin);
                    multiply_panel(to, begin, to.end(), s, memory, product);
                    for (index_t k = 0; k < to.width; ++k)
                        energies[static_cast<std::size_t>(to.first + k)] += squared_norm(product + k * strips_type::height);
                }
        });
    }

    void add_squares(const working_memory& memory, index_t strips, std::vector<double>& sums) const {
        for (index_t s = 0; s < strips; ++s)
            for (index_t k = 0; k < feedback_.cols(); ++k) sums[static_cast<std::size_t>(k)] += squared_norm(memory.residual.column(s, k));
    }

    void quantize_rows(const working_memory& memory, index_t first_row, index_t rows, column_quantizer_ref<Scalar> quantizer,
                       std::vector<double>& squared_errors) const {
        constexpr index_t height = strips_type::height;
        const index_t strips = strips_of(rows);
        std::fill_n(memory.rounded, tile_rows, Scalar(0));  // rows that only fill up a strip are zero and stay so
        for_each_block([&](index_t begin, std::span<const panel> panels) {
            multiply_before(begin, panels, strips, memory);
            const sequential_window<Scalar> window(memory.residual, memory.carried, feedback_, first_row, rows, begin, block_end(begin));
            for (const panel& columns : panels) {
                for (index_t s = 0; s < strips; ++s) {
                    std::copy_n(memory.carried.column(s, columns.first - begin), tile::rows * height, memory.sums.column(s, 0));
                    multiply_panel(columns, begin, columns.first, s, memory, memory.sums.column(s, 0));
                }
                for (index_t k = columns.first; k < columns.end(); ++k) {
                    const index_t in_panel = k - columns.first;
                    quantizer.prepare(k, window);
                    for (index_t s = 0; s < strips; ++s) {
                        const Scalar* const own = memory.residual.column(s, k);
                        const Scalar* const others = memory.sums.column(s, in_panel);
                        for (index_t i = 0; i < height; ++i) memory.weights[s * height + i] = own[i] + others[i];
                    }
                    quantizer(k, first_row, std::span<const Scalar>(memory.weights, static_cast<std::size_t>(rows)),
                              std::span<Scalar>(memory.rounded, static_cast<std::size_t>(rows)));
                    const Scalar* const T = packed_.data() + columns.offset + k * tile::rows;  // row k, in the columns of the panel
                    for (index_t s = 0; s < strips; ++s) feed_forward(in_panel, columns.width, T, s, k, memory);
                    squared_errors[static_cast<std::size_t>(k)] +=
                        sum_of_squares(rows, [&](index_t i) { return memory.rounded[i] - memory.weights[i]; });
                }
            }
        });
    }

    /// Column k of a strip becomes W - Q, and enters the sums of the later columns of the panel.
    static void feed_forward(index_t in_panel, index_t width, const Scalar* T, index_t s, index_t k,
                             const working_memory& memory) noexcept {
        using traits = simd::pack_traits<Scalar, simd::default_arch>;
        constexpr index_t lanes = traits::lanes;
        static_assert(strips_type::height == 2 * lanes);
        Scalar* const error = memory.residual.column(s, k);
        Scalar* const sums = memory.sums.column(s, 0);
        const Scalar* const rounded = memory.rounded + s * strips_type::height;
        const auto e0 = traits::load(error) - traits::load(rounded);
        const auto e1 = traits::load(error + lanes) - traits::load(rounded + lanes);
        simd::store(error, e0);
        simd::store(error + lanes, e1);
        for (index_t c = in_panel + 1; c < width; ++c) {
            Scalar* const sum = sums + c * strips_type::height;
            const auto t = traits::broadcast(T[c]);
            simd::store(sum, simd::fma(t, e0, traits::load(sum)));
            simd::store(sum + lanes, simd::fma(t, e1, traits::load(sum + lanes)));
        }
    }

    matrix_view<const Scalar> feedback_;
    index_t block_size_;
    std::vector<panel> panels_;
    aligned_buffer<Scalar> packed_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
