// SPDX-License-Identifier: MIT
#include "library.hpp"

namespace record {
namespace {

/// Runs an operator on each row of W separately, or on W as a matrix.
template <class OfVector, class OfMatrix>
void run(recorder& out, const std::string& function, const std::string& of, const std::string& text, OfVector&& of_vector,
         OfMatrix&& of_matrix) {
    run_with_weights(out, function, of, text, [&](settings& s, results& found, const layer& l, auto W) {
        using stored_type = typename decltype(W)::value_type;
        using scalar = magr::compute_t<stored_type>;
        double amount = 0;
        s.number("amount", amount);
        magr::vectors_of part;
        s.word<magr::vector_axis>("axis", {{"rows", magr::vector_axis::rows}, {"columns", magr::vector_axis::columns}}, part.along);
        s.number("group_size", part.group_size);
        std::vector<scalar> metric;
        if (s.yes("metric", false))
            for (index_t j = 0; j < (part.along == magr::vector_axis::rows ? W.cols() : W.rows()); ++j)
                metric.push_back(scalar(1) + static_cast<scalar>(j % 7) / 4);
        if (!s.yes("vectors", false)) {
            of_matrix(W, std::span<const scalar>(metric), amount, part);
            return found.add("W", W);
        }
        if constexpr (magr::compute_scalar<stored_type>) {
            stored<scalar> rows(l.W, "rows");
            std::vector<double> thresholds;
            for (index_t i = 0; i < W.rows(); ++i)
                thresholds.push_back(of_vector(std::span<scalar>(rows.view().data() + i * W.cols(), static_cast<std::size_t>(W.cols())),
                                               std::span<const scalar>(metric), amount));
            found.add("W", rows.view());
            found.add("thresholds", thresholds);
        }
    });
}

}  // namespace

void project_l1_ball(recorder& out, const std::string& of, const std::string& text) {
    run(
        out, "project_l1_ball", of, text,
        [](auto v, auto d, double radius) {
            return static_cast<double>(d.empty() ? magr::project_l1_ball(v, radius) : magr::project_l1_ball(v, d, radius));
        },
        [](auto W, auto d, double radius, const magr::vectors_of& part) {
            d.empty() ? magr::project_l1_ball(W, radius, part) : magr::project_l1_ball(W, d, radius, part);
        });
}

void prox_linf(recorder& out, const std::string& of, const std::string& text) {
    run(
        out, "prox_linf", of, text,
        [](auto v, auto d, double t) { return static_cast<double>(d.empty() ? magr::prox_linf(v, t) : magr::prox_linf(v, d, t)); },
        [](auto W, auto d, double t, const magr::vectors_of& part) {
            d.empty() ? magr::prox_linf(W, t, part) : magr::prox_linf(W, d, t, part);
        });
}

}  // namespace record
