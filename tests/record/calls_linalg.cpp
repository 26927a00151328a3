// SPDX-License-Identifier: MIT
#include <algorithm>

#include "library.hpp"

#include <magr/calibration/largest_eigenvalue.hpp>
#include <magr/linalg/cholesky.hpp>
#include <magr/linalg/spd_inverse.hpp>
#include <magr/linalg/triangular_solve.hpp>

namespace record {
namespace {

/// A third of the inputs: their sums would otherwise be exact in any order.
table third_of(table X) {
    for (double& x : X.values) x /= 3;
    return X;
}

/// Passes inputs in one type and layout, and sums in another: body(settings, results, layer, type of sums, X, drifted X, executor).
template <class Body>
void run_with_inputs(recorder& out, const std::string& function, const std::string& of, const std::string& text, Body&& body) {
    run_case(out, function, of, text, [&](settings& s, results& found, const layer& l) {
        magr::thread_pool pool(std::stoi(s.find("workers").value_or("1")));
        with_compute_type(s.find("sum").value_or("f64"), [&](auto sum) {
            with_storage_type(s.find("X").value_or("f32"), [&](auto type) {
                const std::string layout = s.find("layout").value_or("rows");
                stored<decltype(type)> X(third_of(l.X), layout), Y(third_of(l.drifted), layout);
                body(s, found, l, sum, X.view(), Y.view(), pool);
            });
        });
    });
}

/// Passes H + mean(diag H) / 100 in some type, and a matrix that is computed from it in place.
template <class Body>
void run_with_square(recorder& out, const std::string& function, const std::string& of, const std::string& text, Body&& body) {
    run_case(out, function, of, text, [&](settings& s, results& found, const layer& l) {
        magr::thread_pool pool(std::stoi(s.find("workers").value_or("1")));
        table damped = l.H;
        double mean = 0;
        for (index_t j = 0; j < damped.cols; ++j) mean += damped(j, j) / static_cast<double>(damped.cols);
        for (index_t j = 0; j < damped.cols; ++j) damped(j, j) += 0.01 * mean;
        with_compute_type(s.find("H").value_or("f64"), [&](auto type) {
            stored<decltype(type)> H(damped, s.find("layout").value_or("rows"));
            body(found, l, H.view(), pool);
        });
    });
}

}  // namespace

void accumulate_gram(recorder& out, const std::string& of, const std::string& text) {
    run_with_inputs(out, "accumulate_gram", of, text, [](settings& s, results& found, const layer&, auto sum, auto X, auto Y, auto& pool) {
        index_t batch = X.rows();
        s.number("batch", batch);
        magr::gram_accumulator<decltype(sum)> calibration(X.cols());
        for (index_t first = 0; first < X.rows(); first += batch)
            calibration.add(X.block(first, 0, std::min(batch, X.rows() - first), X.cols()), pool);
        if (s.yes("merge", false)) {
            magr::gram_accumulator<decltype(sum)> other(X.cols());
            other.add(Y, pool);
            calibration.merge(other, pool);
        }
        found.add("tokens", calibration.tokens());
        found.add("H", calibration.gram(pool));
    });
}

void accumulate_drift(recorder& out, const std::string& of, const std::string& text) {
    run_with_inputs(out, "accumulate_drift", of, text, [](settings& s, results& found, const layer&, auto sum, auto X, auto Y, auto& pool) {
        index_t batch = X.rows();
        s.number("batch", batch);
        magr::drift_accumulator<decltype(sum)> calibration(X.cols());
        for (index_t first = 0; first < X.rows(); first += batch) {
            const index_t rows = std::min(batch, X.rows() - first);
            calibration.add(X.block(first, 0, rows, X.cols()), Y.block(first, 0, rows, X.cols()), pool);
        }
        if (s.yes("merge", false)) {
            magr::drift_accumulator<decltype(sum)> other(X.cols());
            other.add(Y, X, pool);
            calibration.merge(other);
        }
        found.add("tokens", calibration.tokens());
        found.add("D", calibration.drift());
    });
}

void largest_eigenvalue(recorder& out, const std::string& of, const std::string& text) {
    run_with_square(out, "largest_eigenvalue", of, text, [](results& found, const layer&, auto H, auto&) {
        const magr::matrix_view<const typename decltype(H)::value_type> h = H;
        const double scale = magr::detail::unit_scale(h);
        found.add("scale", scale);
        found.add("largest_eigenvalue", magr::detail::largest_eigenvalue(h, scale));
    });
}

void cholesky(recorder& out, const std::string& of, const std::string& text) {
    run_with_square(out, "cholesky", of, text, [](results& found, const layer&, auto H, auto& pool) {
        found.add("factored", magr::linalg::cholesky(H, pool));
        for (index_t i = 0; i < H.rows(); ++i)
            for (index_t j = i + 1; j < H.cols(); ++j) H(i, j) = 0;
        found.add("L", H);
    });
}

void spd_inverse(recorder& out, const std::string& of, const std::string& text) {
    run_with_square(out, "spd_inverse", of, text, [](results& found, const layer&, auto H, auto& pool) {
        found.add("inverted", magr::linalg::spd_inverse(H, pool));
        found.add("inverse", H);
    });
}

void triangular_solve(recorder& out, const std::string& of, const std::string& text) {
    run_with_square(out, "triangular_solve", of, text, [](results& found, const layer& l, auto H, auto& pool) {
        using scalar = typename decltype(H)::value_type;
        found.add("factored", magr::linalg::cholesky(H, pool));
        table transposed(l.W.cols, l.W.rows);
        for (index_t i = 0; i < l.W.rows; ++i)
            for (index_t j = 0; j < l.W.cols; ++j) transposed(j, i) = l.W(i, j);
        stored<scalar> B(transposed, "padded");
        std::vector<scalar> scratch(static_cast<std::size_t>(magr::kernels::product_blocks<scalar, magr::simd::default_arch>::scratch));
        const magr::matrix_view<const scalar> L = H;
        magr::linalg::solve_lower(L, B.view(), scratch.data());
        found.add("forward", B.view());
        magr::linalg::solve_lower_transposed(L, B.view(), scratch.data());
        found.add("solution", B.view());
    });
}

}  // namespace record
