// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/convert.hpp>
#include <magr/grid/grid.hpp>
#include <magr/kernels/packed_product.hpp>
#include <magr/kernels/packwise.hpp>
#include <magr/linalg/vectors.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// How the errors of a group's columns are combined: a norm, diag(H), or H itself.
template <compute_scalar Scalar>
class grid_metric {
public:
    using panel = row_major_matrix<Scalar>;

    /// sum |e|^norm
    [[nodiscard]] static grid_metric plain(const grid_options& options) {
        grid_metric metric;
        metric.norm_ = options.range == range_search::mse ? static_cast<Scalar>(options.error_exponent) : Scalar(2);
        return metric;
    }

    /// sum_j importance_j e_j^2 with output_error, and sum |e|^norm otherwise or without importance.
    [[nodiscard]] static grid_metric diagonal(const grid_options& options, std::span<const double> importance) {
        grid_metric metric = plain(options);
        if (importance.empty() || options.range != range_search::output_error) return metric;
        const double largest = *std::max_element(importance.begin(), importance.end());
        if (largest <= 0) return metric;  // no input is live: all columns count the same
        metric.importance_.resize(static_cast<index_t>(importance.size()));
        for (std::size_t j = 0; j < importance.size(); ++j)
            metric.importance_[static_cast<index_t>(j)] = static_cast<Scalar>(importance[j] / largest);
        return metric;
    }

    /// The metric that the options ask for, for these columns of H.
    [[nodiscard]] static grid_metric of_columns(const grid_options& options, const matrix_ref& H, std::span<const index_t> columns) {
        std::vector<double> energies;
        for (const index_t j : columns) energies.push_back(H(j, j));
        grid_metric metric = diagonal(options, energies);
        const double largest = *std::max_element(energies.begin(), energies.end());
        if (options.range != range_search::row_output_error || largest <= 0) return metric;
        const auto width = static_cast<index_t>(columns.size());
        const index_t padded = kernels::round_up(width, tile::cols);
        metric.full_.resize(static_cast<std::size_t>(width * padded));
        for (index_t a = 0; a < width; ++a)
            for (index_t b = 0; b < width; ++b)
                metric.full_[static_cast<std::size_t>(a * padded + b)] = static_cast<Scalar>(
                    H(columns[static_cast<std::size_t>((std::max)(a, b))], columns[static_cast<std::size_t>((std::min)(a, b))]) / largest);
        const aligned_buffer<Scalar> buffer(blocks::depth * padded);
        kernels::pack_in_place(metric.full_.data(), width, padded, buffer.data());
        return metric;
    }

    /// The error of each row of `e`.
    [[nodiscard]] std::vector<double> errors(const panel& e) const {
        std::vector<double> sums(static_cast<std::size_t>(e.rows()));
        if (norm_ != 2) {
            const Eigen::Array<Scalar, Eigen::Dynamic, 1> powers = e.array().abs().pow(norm_).rowwise().sum();
            std::copy_n(powers.data(), e.rows(), sums.data());
            return sums;
        }
        const panel weighted = apply(e);
        for (index_t i = 0; i < e.rows(); ++i)
            sums[static_cast<std::size_t>(i)] = static_cast<double>(linalg::dot(&weighted(i, 0), &e(i, 0), e.cols()));
        return sums;
    }

    /// Rows times the matrix of the quadratic form; the identity for a norm.
    [[nodiscard]] panel apply(const panel& e) const {
        if (!full_.empty()) return times_full(e);
        panel product = e;
        for (index_t i = 0; importance_.size() > 0 && i < e.rows(); ++i)
            kernels::for_each_pack<Scalar>(e.cols(), [&, out = &product(i, 0)](index_t j, auto arch) {
                using traits = simd::pack_traits<Scalar, decltype(arch)>;
                simd::store(out + j, traits::load(out + j) * traits::load(importance_.data() + j));
            });
        return product;
    }

private:
    using tile = kernels::register_tile<Scalar, simd::default_arch>;
    using blocks = kernels::product_blocks<Scalar, simd::default_arch>;

    [[nodiscard]] panel times_full(const panel& e) const {
        const index_t rows = kernels::round_up(e.rows(), tile::rows), width = e.cols(), padded = kernels::round_up(width, tile::cols);
        const aligned_buffer<Scalar> left(rows * width);
        for (index_t i = 0; i < e.rows(); i += tile::rows)
            kernels::pack_left(as_const_view(e).block(i, 0, (std::min)(tile::rows, e.rows() - i), width), rows, i, left.data());
        panel product(rows, padded);
        kernels::multiply_packed(rows, width, padded, left.data(), full_.data(), product.data(), padded);
        return product.topLeftCorner(e.rows(), width);
    }

    Scalar norm_ = 2;
    Eigen::Array<Scalar, Eigen::Dynamic, 1> importance_;
    std::vector<Scalar> full_;  // H, packed as the right operand of products
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
