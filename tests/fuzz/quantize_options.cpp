// SPDX-License-Identifier: MIT
// Any weights, any symmetric or nearly symmetric matrix and any numbers as options: the quantizers must either refuse them or quantize.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include <magr/attention/boa.hpp>
#include <magr/drift/gpfq_drift.hpp>
#include <magr/drift/gptaq.hpp>
#include <magr/drift/qronos.hpp>
#include <magr/drift/round_onto_drift.hpp>
#include <magr/layer/coupled_rows.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/owq/owq.hpp>
#include <magr/quantize.hpp>
#include <magr/quantize_layer.hpp>
#include <magr/quantize_quip.hpp>

namespace {

/// Reads values from the bytes of an input; zeros when the bytes are used up.
class byte_reader {
public:
    byte_reader(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

    template <class T>
    [[nodiscard]] T raw() {
        std::array<std::uint8_t, sizeof(T)> bytes{};
        for (std::uint8_t& byte : bytes)
            if (size_ > 0) byte = *data_++, --size_;
        return std::bit_cast<T>(bytes);
    }

    /// One of 0..count - 1.
    [[nodiscard]] int choice(int count) { return raw<std::uint8_t>() % count; }

    /// Mostly simple numbers, often extreme ones, sometimes arbitrary ones, seldom NaN or infinity.
    template <class T>
    [[nodiscard]] T number() {
        using limits = std::numeric_limits<T>;
        static constexpr T special[] = {T(0),
                                        T(-0.0),
                                        T(1),
                                        T(-1),
                                        T(1e38),
                                        T(-1e38),
                                        T(1e-38),
                                        T(1e-6),
                                        T(1e5),
                                        T(65504),
                                        T(0x1p-24),
                                        T(0x1p-25),
                                        limits::max(),
                                        limits::lowest(),
                                        limits::min(),
                                        -limits::min(),
                                        limits::denorm_min(),
                                        -limits::denorm_min(),
                                        1 + limits::epsilon(),
                                        T(1 + 1e-12)};
        static constexpr T none[] = {limits::infinity(), -limits::infinity(), limits::quiet_NaN()};
        const std::uint8_t kind = raw<std::uint8_t>();
        if (kind < 0xC0) return (static_cast<T>(kind) - 0x60) / 16;
        if (kind < 0xF0) return special[static_cast<std::size_t>(kind - 0xC0) % std::size(special)];
        return kind < 0xFD ? raw<T>() : none[kind - 0xFD];
    }

    /// Mostly small sizes, sometimes invalid ones.
    [[nodiscard]] magr::index_t size() {
        const auto kind = raw<std::int8_t>();
        return kind > -120 ? kind : raw<magr::index_t>();
    }

private:
    const std::uint8_t* data_;
    std::size_t size_;
};

void require(bool holds) {
    if (!holds) std::abort();
}

template <class T, class Next>
magr::matrix<T> matrix_of(magr::index_t rows, magr::index_t cols, Next&& next) {
    magr::matrix<T> m(rows, cols);
    for (magr::index_t i = 0; i < rows; ++i)
        for (magr::index_t j = 0; j < cols; ++j) m(i, j) = next();
    return m;
}

/// X^T X, X^T X with one row and column replaced, or an arbitrary matrix.
template <class T>
magr::matrix<T> gram_of(byte_reader& in, magr::index_t n) {
    const auto number = [&] { return in.number<T>(); };
    const int kind = in.choice(4);
    if (kind == 3) return matrix_of<T>(n, n, number);
    magr::matrix<T> H(n, n);
    const magr::index_t tokens = in.choice(4);
    for (magr::index_t t = 0; t < tokens; ++t) {
        const auto x = matrix_of<T>(1, n, number);
        for (magr::index_t i = 0; i < n; ++i)
            for (magr::index_t j = 0; j < n; ++j) H(i, j) += x(0, i) * x(0, j);
    }
    for (int changes = n > 0 ? kind : 0; changes > 0; --changes) {
        const magr::index_t i = in.choice(static_cast<int>(n));
        const magr::index_t j = in.choice(static_cast<int>(n));
        H(i, j) = H(j, i) = number();
    }
    return H;
}

magr::grid_options grid_options_of(byte_reader& in) {
    magr::grid_options o;
    o.bits = in.choice(4) > 0 ? 2 + in.choice(7) : static_cast<int>(in.size());
    o.zero_point = static_cast<magr::zero_point>(in.choice(6));
    if (in.choice(2) == 1) o.group_size = in.size();
    o.storage = static_cast<magr::storage_type>(in.choice(4));
    o.range = static_cast<magr::range_search>(in.choice(4));
    o.candidates = static_cast<magr::range_candidates>(in.choice(2));
    if (in.choice(4) == 1) o.error_exponent = in.number<double>();
    if (in.choice(4) == 1) o.range_factor = in.number<double>();
    o.shrink_towards = static_cast<magr::range_point>(in.choice(3));
    if (in.choice(4) == 1) {
        if (in.choice(8) > 0) o.zero_point = magr::zero_point::none;
        for (int level = in.choice(6); level > 0; --level) o.levels.push_back(in.number<double>());
    }
    return o;
}

magr::optq_options optq_options_of(byte_reader& in) {
    magr::optq_options o;
    if (in.choice(2) == 1) o.damping = in.number<double>();
    if (in.choice(2) == 1) o.block_size = in.size();
    o.order = static_cast<magr::column_order>(in.choice(4));
    o.groups = static_cast<magr::group_update>(in.choice(3));
    o.dead = static_cast<magr::dead_columns>(in.choice(3));
    if (in.choice(4) == 1) o.dead_threshold = in.number<double>();
    o.on_failure = static_cast<magr::factor_fallback>(in.choice(3));
    o.rounding = static_cast<magr::rounding_mode>(in.choice(2));
    o.seed = in.raw<std::uint8_t>();
    o.precision = static_cast<magr::factor_precision>(in.choice(3));
    return o;
}

/// Numbers of passes, also invalid ones, but not so large that nearly parallel parameters chase each other for minutes.
magr::index_t passes_of(byte_reader& in) { return std::min<magr::index_t>(in.size(), 127); }

magr::code_refinement_options code_refinement_of(byte_reader& in) {
    magr::code_refinement_options o;
    o.max_passes = passes_of(in);
    if (in.choice(2) == 1) o.damping = in.number<double>();
    if (in.choice(2) == 1) o.denominator_offset = in.number<double>();
    o.order = static_cast<magr::column_order>(in.choice(4));
    return o;
}

magr::scale_refinement_options scale_refinement_of(byte_reader& in) {
    magr::scale_refinement_options o;
    o.max_passes = passes_of(in);
    if (in.choice(2) == 1) o.damping = in.number<double>();
    return o;
}

magr::preprocess_options preprocess_options_of(byte_reader& in) {
    magr::preprocess_options o;
    if (in.choice(2) == 1) o.alpha = in.number<double>();
    if (in.choice(2) == 1) o.group_size = in.size();
    o.solver = static_cast<magr::preprocess_solver>(in.choice(2));
    if (in.choice(2) == 1) o.damping = in.number<double>();
    o.max_iterations = in.choice(32);
    if (in.choice(2) == 1) o.tolerance = in.number<double>();
    static_cast<void>(in.size());  // read, so that the existing corpus keeps its meaning
    if (in.choice(4) == 1) o.rho = in.number<double>();
    if (in.choice(4) == 1) o.relaxation = in.number<double>();
    return o;
}

magr::layer_options layer_options_of(byte_reader& in, const magr::grid_options& grid, const magr::optq_options& optq) {
    magr::layer_options o;
    o.quantizer = static_cast<magr::layer_quantizer>(in.choice(2));
    o.grid = grid;
    if (in.choice(2) == 1) o.preprocess = preprocess_options_of(in);
    o.optq = optq;
    o.target = static_cast<magr::rounding_target>(in.choice(2));
    o.refinement.rounds = in.choice(4) - 1;
    o.refinement.scales = scale_refinement_of(in);
    o.refinement.codes = code_refinement_of(in);
    return o;
}

/// Damages grids that may have been valid.
template <class T>
void change(byte_reader& in, magr::weight_grids<T>& grids) {
    const auto place = [&](const magr::matrix<T>& m) {
        return static_cast<magr::index_t>(in.choice(static_cast<int>(m.rows() * m.cols())));
    };
    switch (in.choice(10)) {
        case 1: grids.bits = static_cast<int>(in.size()); break;
        case 2: grids.group_size = in.size(); break;
        case 3: grids.zero_point = static_cast<magr::zero_point>(in.choice(6)); break;
        case 4: grids.storage = static_cast<magr::storage_type>(in.choice(4)); break;
        case 5: grids.levels.push_back(in.number<T>()); break;
        case 6: grids.scales.data()[place(grids.scales)] = in.number<T>(); break;
        case 7: grids.zeros.data()[place(grids.zeros)] = in.number<T>(); break;
        case 8: grids.group_of_column[static_cast<std::size_t>(in.choice(static_cast<int>(grids.cols())))] = in.size(); break;
        case 9: grids.scales = magr::matrix<T>(in.choice(8), 1); break;
        default: break;
    }
}

template <class T>
bool same_bits(const magr::matrix<T>& a, const magr::matrix<T>& b) {
    return a.empty() || std::memcmp(a.data(), b.data(), sizeof(T) * static_cast<std::size_t>(a.rows() * a.cols())) == 0;
}

template <class T>
bool all_finite(const magr::matrix<T>& m) {
    for (magr::index_t i = 0; i < m.rows(); ++i)
        for (magr::index_t j = 0; j < m.cols(); ++j)
            if (!std::isfinite(m(i, j))) return false;
    return true;
}

template <class T>
void check(const magr::quantized_matrix<T>& q, magr::index_t rows, magr::index_t cols) {
    require(q.codes.rows() == rows && q.codes.cols() == cols && q.bits >= 2 && q.bits <= 8);
    const auto codes = q.levels.empty() ? std::size_t{1} << q.bits : q.levels.size();
    for (magr::index_t i = 0; i < rows; ++i)
        for (magr::index_t j = 0; j < cols; ++j) require(q.codes(i, j) < codes);
    require(all_finite(q.scales) && all_finite(q.zeros) && all_finite(q.dequantize()));
}

/// Methods of other papers, with what is left of the input; nothing if that is nothing, so that the older corpus keeps its meaning.
template <class Weight, class Gram>
void quantize_by_method(byte_reader& in, const magr::matrix<Weight>& W, const magr::matrix<Gram>& H, const magr::grid_options& grid,
                        const magr::optq_options& optq) {
    const int call = in.choice(6);
    const auto checked = [&](const auto& result, const auto& quantized) {
        if (result) check(quantized, W.rows(), W.cols());
    };
    if (call == 1) {
        const auto C = matrix_of<Gram>(W.cols(), W.cols(), [&] { return in.number<Gram>(); });
        const auto grids = magr::fit_grids(W, H, grid);
        const auto round = [&](const auto& method) {
            const auto q = magr::round_onto_drift(grids, W, H, C, method, magr::round_half_even{}, {.order = optq.order});
            if (q) check(*q, W.rows(), W.cols());
        };
        const int method = in.choice(3);
        if (method == 0) round(magr::gpfq_drift{});
        if (method == 1) round(magr::gptaq{.alpha = in.number<double>(), .damping = in.number<double>()});
        if (method == 2) round(magr::qronos{.damping = in.number<double>()});
    }
    if (call == 2) {
        magr::quip_options options;
        options.bits = grid.bits;
        options.incoherence.kind = static_cast<magr::rotation_kind>(in.choice(3));
        options.incoherence.rescale = in.choice(2) == 0;
        options.clamp = in.choice(2) == 0;
        options.greedy_passes = passes_of(in);
        options.optq = optq;
        const auto result = magr::quantize_quip(W, H, options);
        checked(result, result.quantized.quantized);
        if (result) require(all_finite(result.weights));
    }
    if (call == 3) {
        magr::coupled_options options;
        options.layer = layer_options_of(in, grid, optq);
        for (int factors = in.choice(3); factors > 0; --factors) options.range_factors.push_back(in.number<double>());
        options.refined_candidates = in.choice(4);
        options.passes = in.choice(3);
        options.rows_per_step = in.size();
        if (in.choice(2) == 1) options.damping = in.number<double>();
        const auto result = magr::quantize_coupled_rows(W, H, gram_of<Gram>(in, W.rows()), options);
        checked(result, result.quantized);
    }
    if (call == 4) {
        magr::boa_options options;
        options.order = optq.order;
        options.damping = optq.damping;
        options.rows_per_step = in.size();
        options.scale_passes = in.choice(3);
        const auto result = magr::quantize_boa(W, H, gram_of<Gram>(in, 1 + in.choice(static_cast<int>(W.rows()))), grid, options);
        checked(result, result.quantized);
    }
    if (call == 5) {
        magr::owq_options options;
        options.weak_columns = in.size();
        options.grid = grid;
        options.optq = optq;
        if (in.choice(2) == 0) options.clips.reset();
        const auto result = magr::quantize_owq(W, H, options);
        if (result) require(all_finite(result.quantized.dequantize()));
    }
}

template <class Weight, class Gram>
void quantize(byte_reader& in) {
    const auto grid = grid_options_of(in);
    const auto options = optq_options_of(in);
    const int call = in.choice(7);
    const magr::index_t rows = 1 + in.choice(6);
    const magr::index_t cols = 1 + in.choice(12);
    const auto W = matrix_of<Weight>(rows, cols, [&] { return in.number<Weight>(); });
    const auto H = gram_of<Gram>(in, in.choice(32) > 0 ? cols : in.choice(4));
    const auto W_before = W;
    const auto H_before = H;
    try {
        std::optional<magr::weight_grids<Weight>> grids;
        if (call == 3 || call == 4) {
            grids = magr::fit_grids(W, H, grid);
            change(in, *grids);
        }
        if (call == 0) check(magr::quantize_rtn(W, grid), rows, cols);
        if (call == 1) check(magr::quantize_rtn(W, H, grid), rows, cols);
        if (call == 2 || call == 4) {
            const auto result = call == 2 ? magr::quantize_optq(W, H, grid, options) : magr::quantize_optq(W, H, *grids, options);
            if (result)
                check(result.quantized, rows, cols);
            else
                require(result.status == magr::quantization_status::failed ||
                        result.status == magr::quantization_status::dead_columns_refused ||
                        result.status == magr::quantization_status::overflowed);
        }
        if (call == 3) check(magr::quantize_rtn(W, *grids), rows, cols);
        if (call == 5) {
            auto quantized = magr::quantize_rtn(W, grid);
            const auto scales = magr::refine_scales(quantized, W, H, scale_refinement_of(in));
            const auto codes = magr::refine_codes(quantized, W, H, code_refinement_of(in));
            constexpr double rounding = 1 + 1e-12;  // of losses that a pass left as they were
            require(!(scales.loss_after > rounding * scales.loss_before) && !(codes.loss_after > rounding * codes.loss_before));
            check(quantized, rows, cols);
        }
        if (call == 6) {
            const auto result = magr::quantize_layer(W, H, layer_options_of(in, grid, options));
            if (result) check(result.quantized, rows, cols);
        }
        quantize_by_method(in, W, H, grid, options);
    } catch (const magr::shape_error&) {
    } catch (const magr::option_error&) {
    } catch (const magr::value_error&) {
    }
    require(same_bits(W, W_before) && same_bits(H, H_before));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    byte_reader in(data, size);
    if (in.choice(2) == 0)
        quantize<float, double>(in);
    else
        quantize<double, float>(in);
    return 0;
}
