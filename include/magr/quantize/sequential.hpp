// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <type_traits>
#include <vector>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/kernels/packed_product.hpp>
#include <magr/linalg/triangular_solve.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Some columns of neighbouring rows: strips of `height` rows one after another, each by columns. So a strip, from any column on, is packed
/// as the right operand of register tiles.
template <compute_scalar Scalar>
struct row_strips {
    static constexpr index_t height = kernels::register_tile<Scalar, simd::default_arch>::cols;

    Scalar* data;
    index_t columns;

    /// Column k of strip s: `height` numbers.
    [[nodiscard]] Scalar* column(index_t s, index_t k) const noexcept { return data + (s * columns + k) * height; }

    /// The first `rows` rows of a strip.
    [[nodiscard]] auto strip(index_t s, index_t rows) const {
        using matrix = const Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
        return Eigen::Map<matrix, Eigen::Unaligned, Eigen::OuterStride<>>(column(s, 0), rows, columns, Eigen::OuterStride<>(height));
    }
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// What a column quantizer may look at before it rounds a column: some rows in the middle of a sequential quantization.
///
/// Columns before `block_begin()` were finished when the block started; those from there up to the current column are finished as well.
template <compute_scalar Scalar>
class sequential_window {
public:
    using columns = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
    using strips = detail::row_strips<Scalar>;

    /// @param residual      W - Q in finished columns, W in the others; the rows of the window, all columns
    /// @param carried       (W - Q) T of the columns before the block, for the columns of the block and perhaps some more
    /// @param feedback      T^T
    sequential_window(strips residual, strips carried, matrix_view<const Scalar> feedback, index_t first_row, index_t rows,
                      index_t block_begin, index_t block_end)
        : residual_(residual),
          carried_(carried),
          feedback_(feedback.data(), feedback.rows(), feedback.cols(), Eigen::OuterStride<>(feedback.row_stride())),
          first_row_(first_row),
          rows_(rows),
          block_begin_(block_begin),
          block_end_(block_end) {}

    [[nodiscard]] index_t first_row() const noexcept { return first_row_; }
    [[nodiscard]] index_t rows() const noexcept { return rows_; }
    [[nodiscard]] index_t block_begin() const noexcept { return block_begin_; }

    /// What column k is to be rounded from: w_k + sum_{j < k} (w_j - q_j) T_jk, given that all columns before it are finished.
    void compensate(index_t k, Eigen::Ref<Eigen::Vector<Scalar, Eigen::Dynamic>> weights) const {
        const index_t in_block = k - block_begin_;
        for_each_strip([&](index_t first, const auto& residual, const auto& carried) {
            auto part = weights.segment(first, residual.rows());
            part = residual.col(k) + carried.col(in_block);
            part.noalias() += residual.middleCols(block_begin_, in_block) * feedback_.col(k).segment(block_begin_, in_block);
        });
    }

    /// Columns first..last-1 of the weights that make up best for the errors of the columns before `given`, if all columns from there on
    /// may still change: W + (W - Q) T12 inv(T22), where T12 has the rows before `given` and T22 those after.
    ///
    /// As T22 is triangular, only its part up to `last` is needed. `block_begin() <= given <= first`, and columns before `given` finished.
    [[nodiscard]] columns least_squares_weights(index_t given, index_t first, index_t last) const {
        const index_t width = last - given;
        const index_t in_block = given - block_begin_;
        const bool is_carried = last <= block_end_;
        const index_t begin = is_carried ? block_begin_ : 0;  // of the columns whose feedback is not carried
        columns change = columns::Zero(rows(), width);
        for_each_strip([&](index_t row, const auto& residual, const auto& carried) {
            if (is_carried) change.middleRows(row, residual.rows()) = carried.middleCols(in_block, width);
        });
        // change^T = (T^T in the rows of the columns that change) residual^T
        const detail::aligned_buffer<Scalar> scratch(kernels::product_blocks<Scalar, simd::default_arch>::scratch);
        const matrix_view<Scalar> turned(change.data(), width, rows(), rows());
        const matrix_view<const Scalar> T(feedback_.data(), feedback_.cols(), feedback_.cols(), feedback_.outerStride());  // T^T, by rows
        for (index_t s = 0; s * strips::height < rows_; ++s) {
            const index_t row = s * strips::height, height = (std::min)(strips::height, rows_ - row);
            kernels::multiply_add(turned.block(0, row, width, height), 1.0, T.block(given, begin, width, given - begin),
                                  matrix_view<const Scalar>(residual_.column(s, begin), given - begin, height, strips::height),
                                  scratch.data());
        }
        linalg::solve_lower(T.block(given, given, width, width), turned, scratch.data());
        columns weights = change.rightCols(last - first);
        for_each_strip([&](index_t row, const auto& residual, const auto&) {
            weights.middleRows(row, residual.rows()) += residual.middleCols(first, last - first);
        });
        return weights;
    }

private:
    /// f(first row, residual, carried) for each strip.
    template <class F>
    void for_each_strip(const F& f) const {
        for (index_t s = 0; s * strips::height < rows_; ++s) {
            const index_t first = s * strips::height, height = (std::min)(strips::height, rows_ - first);
            f(first, residual_.strip(s, height), carried_.strip(s, height));
        }
    }

    strips residual_;
    strips carried_;
    Eigen::Map<const columns, Eigen::Unaligned, Eigen::OuterStride<>> feedback_;  // T
    index_t first_row_;
    index_t rows_;
    index_t block_begin_;
    index_t block_end_;
};

/// Rounds the weights of one column in some rows: a function object of (column, first row, weights, rounded).
///
/// It reads `weights` and writes what it rounds them to into `rounded`; element i of both is row `first_row + i`. If it has a member
/// `prepare(column, window)`, that is called before each column, with a `sequential_window` of the same rows. With an executor it is called
/// by several threads at once, each time for other rows.
template <class Q, class Scalar>
concept column_quantizer = requires(Q& quantizer, index_t column, index_t first_row, std::span<const Scalar> weights,
                                    std::span<Scalar> rounded) { quantizer(column, first_row, weights, rounded); };

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// For each column k, in the order of processing.
struct sequential_sums {
    static constexpr index_t per_column = 4;
    std::vector<double> energies;         // ||(W T)_k||^2, zeros if not asked for
    std::vector<double> weights;          // ||W_k||^2
    std::vector<double> rounding_errors;  // of (rounded value - value it was rounded from)^2 over the rows
    std::vector<double> residuals;        // ||(W - Q)_k||^2

    explicit sequential_sums(index_t n)
        : energies(static_cast<std::size_t>(n)), weights(energies), rounding_errors(energies), residuals(energies) {}

    sequential_sums& operator+=(const sequential_sums& other) {
        const auto add = [](std::vector<double>& to, const std::vector<double>& from) {
            std::transform(to.begin(), to.end(), from.begin(), to.begin(), std::plus<>{});
        };
        add(energies, other.energies);
        add(weights, other.weights);
        add(rounding_errors, other.rounding_errors);
        add(residuals, other.residuals);
        return *this;
    }
};

/// Quantization of rows that feeds errors through T, and what is measured on the way: T packed once, and a tile of rows at a time.
///
/// A tile of rows is a task. Its part of W stays in the second and third level of cache, while T passes by: 128 columns of T (or as many as
/// a block has) times 384 of W at a time.
template <compute_scalar Scalar>
class sequential_pass {
public:
    /// Bytes that a pass over so many rows allocates; what it makes of panels, a few for each column, is not among them.
    [[nodiscard]] static std::size_t bytes(index_t rows, index_t n, index_t block_size, index_t workers) {
        const index_t block = (std::min)(block_size, n);
        const index_t numbers = packed_size(n, block) + workers * working_memory::size(n, kernels::round_up(block, tile::rows));
        const index_t sums = ((rows + tile_rows - 1) / tile_rows + 1) * sequential_sums::per_column * n;
        return static_cast<std::size_t>(numbers) * sizeof(Scalar) + static_cast<std::size_t>(sums) * sizeof(double);
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
    /// @param load      load(first row, row count, strip) writes `row_strips::height` weights of each column in order, zeros for missing
    /// rows
    /// @param finish    finish(first row, row count, strip) reads what has become of them: W - Q
    /// @param measured  whether to compute `sequential_sums::energies`, which takes as long as the quantization
    template <class Load, class Quantizer, class Finish>
    [[nodiscard]] sequential_sums run(index_t rows, const Load& load, Quantizer& quantizer, const Finish& finish, bool measured,
                                      executor_ref exec) const {
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

private:
    using tile = kernels::register_tile<Scalar, simd::default_arch>;
    using strips_type = row_strips<Scalar>;
    static constexpr index_t tile_rows = 256;
    static_assert(tile_rows % strips_type::height == 0);

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

    template <class Quantizer>
    void quantize_rows(const working_memory& memory, index_t first_row, index_t rows, Quantizer& quantizer,
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
                    if constexpr (requires { quantizer.prepare(k, window); }) quantizer.prepare(k, window);
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

    /// Column k of a strip becomes W - Q, and enters the sums of the columns behind it in the panel.
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
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Quantizes the columns of W one after the other, each making up for the errors of those before it:
///
///   q_k = quantizer( w_k + sum_{j < k} (w_j - q_j) T_jk )
///
/// The feedback of all earlier blocks of columns enters a block by one matrix product, so the block size changes the cost and, in exact
/// arithmetic, nothing else (a quantizer that looks at `block_begin()` aside).
///
/// @par Shapes    W: rows x n, contiguous columns (in: W, out: W - Q); feedback: n x n, row k holds the T_jk that flow into column k
/// @pre           block_size >= 1; feedback unit lower triangular
/// @return        n sums over the rows of (rounded value - value it was rounded from)^2
/// @par Cost      rows * n^2 / 2 multiply-adds; allocates n^2 / 2 for T in the order in which it is read, and 256 * (n + block_size) per
///                worker; what the quantizer does is extra. Blocks of 96 to 192 columns are fastest, with 2% between them
/// @par Numerics  in Scalar, the returned sums in double; the result for a row does not depend on the other rows, nor anything on the
///                executor, whose tasks are 256 rows each
/// @par Source    LDLQ of QuIP (arXiv 2307.13304), which makes the same decisions as OPTQ (arXiv 2210.17323) without changing W
template <compute_scalar Scalar, column_quantizer<Scalar> Quantizer>
std::vector<double> quantize_sequentially(matrix_view<Scalar> W, std::type_identity_t<matrix_view<const Scalar>> feedback,
                                          index_t block_size, Quantizer&& quantizer, executor_ref exec = {}) {
    MAGR_ASSERT(W.row_stride() == 1 && feedback.col_stride() == 1 && feedback.rows() == W.cols() && feedback.cols() == W.cols());
    using strips = detail::row_strips<Scalar>;
    const auto load = [&](index_t row, index_t rows, Scalar* strip) {
        kernels::pack_panel<strips::height>(matrix_view<const Scalar>(W).block(row, 0, rows, W.cols()), 1.0, strip);
    };
    const auto finish = [&](index_t row, index_t rows, const Scalar* strip) {
        for (index_t k = 0; k < W.cols(); ++k) std::copy_n(strip + k * strips::height, rows, &W(row, k));
    };
    return detail::sequential_pass<Scalar>(feedback, block_size, exec).run(W.rows(), load, quantizer, finish, false, exec).rounding_errors;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
