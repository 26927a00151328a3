// SPDX-License-Identifier: MIT
// Textbook versions of the quantizers in long double, written from the published algorithms. They share no code with the library.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <optional>
#include <vector>

namespace oracle {

using real = long double;
using row = std::vector<real>;
using table = std::vector<row>;

/// Any matrix with rows(), cols() and (i, j).
template <class Matrix>
table to_table(const Matrix& m) {
    table out(static_cast<std::size_t>(m.rows()), row(static_cast<std::size_t>(m.cols())));
    for (std::size_t i = 0; i < out.size(); ++i)
        for (std::size_t j = 0; j < out[i].size(); ++j)
            out[i][j] = static_cast<real>(m(static_cast<std::ptrdiff_t>(i), static_cast<std::ptrdiff_t>(j)));
    return out;
}

struct grid {
    real scale;
    int zero;
};

struct grid_rules {
    int bits = 4;
    bool symmetric = false;
    bool mse = false;
    real beta = 1;
    std::size_t group_size = 0;  ///< 0: the whole row
};

inline int code(real x, grid g, int bits) {
    return static_cast<int>(
        std::clamp<real>(std::nearbyint(x / g.scale) + static_cast<real>(g.zero), 0, static_cast<real>((1 << bits) - 1)));
}

inline real value(int code, grid g) { return g.scale * static_cast<real>(code - g.zero); }

/// sum |Q(x) - x|^2.4
inline real power_error(const row& x, grid g, int bits) {
    real sum = 0;
    for (const real v : x) sum += std::pow(std::abs(value(code(v, g, bits), g) - v), 2.4L);
    return sum;
}

inline grid fit(const row& x, const grid_rules& rules) {
    real low = std::min<real>(0, *std::min_element(x.begin(), x.end()));
    real high = std::max<real>(0, *std::max_element(x.begin(), x.end()));
    if (rules.symmetric) {
        high = std::max(high, -low);
        low = -high;
    }
    if (low == high) {
        low = -1;
        high = 1;
    }
    const int largest = (1 << rules.bits) - 1;
    const auto make = [&](real shrink, real beta) {
        const real scale = beta * shrink * (high - low) / static_cast<real>(largest);
        const int zero = rules.symmetric ? (largest + 1) / 2 : static_cast<int>(std::nearbyint(-shrink * low / scale));
        return grid{scale, std::clamp(zero, 0, largest)};
    };
    if (!rules.mse) return make(1, rules.beta);
    grid best = make(1, 1);
    for (int i = 1; i < 80; ++i) {
        const grid candidate = make(1 - static_cast<real>(i) / 100, 1);
        if (power_error(x, candidate, rules.bits) < power_error(x, best, rules.bits)) best = candidate;
    }
    return best;
}

/// Inverse of a symmetric positive definite matrix, by Gauss-Jordan elimination.
inline table inverse(table a) {
    const std::size_t n = a.size();
    table b(n, row(n));
    for (std::size_t i = 0; i < n; ++i) b[i][i] = 1;
    for (std::size_t p = 0; p < n; ++p) {
        const real pivot = a[p][p];
        for (std::size_t j = 0; j < n; ++j) {
            a[p][j] /= pivot;
            b[p][j] /= pivot;
        }
        for (std::size_t i = 0; i < n; ++i) {
            if (i == p) continue;
            const real factor = a[i][p];
            for (std::size_t j = 0; j < n; ++j) {
                a[i][j] -= factor * a[p][j];
                b[i][j] -= factor * b[p][j];
            }
        }
    }
    return b;
}

/// U upper triangular with a = U^T U.
inline table upper_cholesky(const table& a) {
    const std::size_t n = a.size();
    table u(n, row(n));
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = i; j < n; ++j) {
            real sum = a[i][j];
            for (std::size_t k = 0; k < i; ++k) sum -= u[k][i] * u[k][j];
            u[i][j] = i == j ? std::sqrt(sum) : sum / u[i][i];
        }
    return u;
}

/// tr(E H E^T) for E = Q - W.
inline real proxy(const table& W, const table& Q, const table& H) {
    real sum = 0;
    for (std::size_t r = 0; r < W.size(); ++r)
        for (std::size_t i = 0; i < H.size(); ++i)
            for (std::size_t j = 0; j < H.size(); ++j) sum += (Q[r][i] - W[r][i]) * H[i][j] * (Q[r][j] - W[r][j]);
    return sum;
}

/// H + damping * mean(diag H) I. Rows and columns with a zero diagonal entry become independent, and do not enter the mean.
inline table damped(table H, real damping) {
    real sum = 0;
    std::size_t live = 0;
    for (std::size_t j = 0; j < H.size(); ++j) {
        sum += H[j][j];
        live += H[j][j] > 0 ? 1 : 0;
    }
    const real mean = sum / static_cast<real>(live);
    for (std::size_t j = 0; j < H.size(); ++j) {
        if (H[j][j] > 0)
            H[j][j] += damping * mean;
        else
            H[j][j] = mean;
    }
    return H;
}

enum class groups { fixed, live, stale };

struct optq_rules {
    real damping = 0.01L;
    std::size_t block_size = 128;
    bool act_order = false;
    groups update = groups::fixed;
};

struct quantized {
    std::vector<std::vector<int>> codes;  ///< original column order
    table values;                         ///< original column order
    real loss = 0;                        ///< sum of err^2 / 2
};

inline quantized rtn(const table& W, const grid_rules& rules) {
    const std::size_t n = W.front().size();
    const std::size_t width = rules.group_size == 0 ? n : rules.group_size;
    quantized out{std::vector(W.size(), std::vector<int>(n)), W, 0};
    for (std::size_t r = 0; r < W.size(); ++r)
        for (std::size_t first = 0; first < n; first += width) {
            const std::size_t last = std::min(first + width, n);
            const grid g =
                fit(row(W[r].begin() + static_cast<std::ptrdiff_t>(first), W[r].begin() + static_cast<std::ptrdiff_t>(last)), rules);
            for (std::size_t j = first; j < last; ++j) {
                out.codes[r][j] = code(W[r][j], g, rules.bits);
                out.values[r][j] = value(out.codes[r][j], g);
            }
        }
    return out;
}

/// OPTQ as published: U = upper Cholesky factor of the inverse of H, and W updated after every column. Within a block only the block's own
/// columns are updated, and the rest when the block is finished; `groups::live` updates all columns at once.
inline quantized optq(const table& W0, const table& H0, const grid_rules& rules, const optq_rules& how) {
    const std::size_t n = H0.size();
    const std::size_t width = rules.group_size == 0 ? n : rules.group_size;
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (how.act_order) std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return H0[a][a] > H0[b][b]; });

    const table full = damped(H0, how.damping);
    table H(n, row(n));
    table W(W0.size(), row(n));
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) H[i][j] = full[order[i]][order[j]];
    for (std::size_t r = 0; r < W.size(); ++r)
        for (std::size_t j = 0; j < n; ++j) W[r][j] = W0[r][order[j]];
    const table U = upper_cholesky(inverse(H));

    const bool fixed = how.update == groups::fixed || rules.group_size == 0;
    const std::size_t block = how.update == groups::live ? 1 : how.block_size;
    quantized out{std::vector(W.size(), std::vector<int>(n)), W0, 0};
    for (std::size_t r = 0; r < W.size(); ++r) {
        std::vector<grid> grids((n + width - 1) / width);
        if (fixed)
            for (std::size_t g = 0; g < grids.size(); ++g)
                grids[g] = fit(row(W0[r].begin() + static_cast<std::ptrdiff_t>(g * width),
                                   W0[r].begin() + static_cast<std::ptrdiff_t>(std::min((g + 1) * width, n))),
                               rules);
        for (std::size_t begin = 0; begin < n; begin += block) {
            const std::size_t end = std::min(begin + block, n);
            const row stale = W[r];
            row errors(n);
            for (std::size_t i = begin; i < end; ++i) {
                if (!fixed && i % width == 0)
                    grids[i / width] = fit(row(stale.begin() + static_cast<std::ptrdiff_t>(i),
                                               stale.begin() + static_cast<std::ptrdiff_t>(std::min(i + width, n))),
                                           rules);
                const grid g = grids[(fixed ? order[i] : i) / width];
                const int c = code(W[r][i], g, rules.bits);
                out.codes[r][order[i]] = c;
                out.values[r][order[i]] = value(c, g);
                errors[i] = (W[r][i] - value(c, g)) / U[i][i];
                if (H0[order[i]][order[i]] > 0) out.loss += 0.5L * errors[i] * errors[i];
                for (std::size_t k = i; k < end; ++k) W[r][k] -= errors[i] * U[i][k];
            }
            for (std::size_t k = end; k < n; ++k)
                for (std::size_t i = begin; i < end; ++i) W[r][k] -= errors[i] * U[i][k];
        }
    }
    return out;
}

/// LDLQ as published, column by column without ever changing W, with a fixed grid per row: H = T D T^T by elimination.
inline std::vector<std::vector<int>> ldlq(const table& W, table H, const grid_rules& rules) {
    const std::size_t n = H.size();
    table T(n, row(n));
    for (std::size_t k = n; k-- > 0;) {  // from the last column: T_jk = H_jk / D_k, then remove the column's part
        for (std::size_t j = 0; j <= k; ++j) T[j][k] = H[j][k] / H[k][k];
        const real pivot = H[k][k];
        for (std::size_t i = 0; i < k; ++i)
            for (std::size_t j = 0; j < k; ++j) H[i][j] -= T[i][k] * pivot * T[j][k];
    }
    std::vector codes(W.size(), std::vector<int>(n));
    for (std::size_t r = 0; r < W.size(); ++r) {
        const grid g = fit(W[r], rules);
        row error(n);
        for (std::size_t k = 0; k < n; ++k) {
            real x = W[r][k];
            for (std::size_t j = 0; j < k; ++j) x += error[j] * T[j][k];
            codes[r][k] = code(x, g, rules.bits);
            error[k] = W[r][k] - value(codes[r][k], g);
        }
    }
    return codes;
}

}  // namespace oracle
