// SPDX-License-Identifier: MIT
// The adapter: the only file of the engine that includes magr, and the only one that is compiled with exceptions.
#include "quantize.h"

#include <Eigen/Core>
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <magr/magr.hpp>
#include <magr/parallel/callback.hpp>
#include <magr/parallel/watched.hpp>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

struct engine_calibration {
    std::optional<magr::gram_accumulator<float>> sum;  // until it is finished
    magr::matrix<float> H;                             // from then on
};

namespace {

using magr::index_t;

/// Runs f, which returns a status, and turns exceptions into codes.
template <class F>
engine_status guarded(engine_error* error, const F& f) noexcept {
    const auto failed = [&](engine_status status, const char* message) {
        if (error != nullptr) error->text[std::string_view(message).copy(error->text, sizeof error->text - 1)] = '\0';
        return status;
    };
    try {
        return f(failed);
    } catch (const magr::cancelled& e) {
        return failed(ENGINE_CANCELLED, e.what());
    } catch (const magr::value_error& e) {
        return failed(ENGINE_BAD_VALUE, e.what());
    } catch (const std::invalid_argument& e) {  // shape_error and option_error
        return failed(ENGINE_BAD_ARGUMENT, e.what());
    } catch (const std::bad_alloc&) {
        return failed(ENGINE_OUT_OF_MEMORY, "out of memory");
    } catch (const std::exception& e) {
        return failed(ENGINE_FAILED, e.what());
    }
}

/// Calls f with a view of the tensor's own memory.
template <class F>
auto with_view(const engine_tensor& t, const F& f) {
    const auto view = [&](auto* data) { return magr::matrix_view(data, static_cast<index_t>(t.rows), static_cast<index_t>(t.cols)); };
    if (t.type == ENGINE_F16) return f(view(static_cast<const Eigen::half*>(t.data)));
    if (t.type == ENGINE_BF16) return f(view(static_cast<const Eigen::bfloat16*>(t.data)));
    throw magr::option_error(std::string(t.name) + " must be f16 or bf16");
}

/// The first `threads` threads of the engine's pool: each takes task after task and is a worker by number.
struct thread_share {
    engine_pool* pool;
    std::size_t threads;

    static void run(void* context, std::size_t count, engine_task task, void* data) {
        struct loop {
            std::atomic<std::size_t> next{0};
            std::size_t count;
            engine_task task;
            void* data;
        } tasks{0, count, task, data};
        const auto work = [](void* p, std::size_t worker, std::size_t) {
            loop& l = *static_cast<loop*>(p);
            for (std::size_t i = l.next++; i < l.count; i = l.next++) l.task(l.data, i, worker);
        };
        const auto& self = *static_cast<const thread_share*>(context);
        engine_parallel_for(self.pool, self.threads, work, &tasks);
    }
};

/// Copies a strip's part of a matrix, some columns from `column` on, into the whole of it.
template <class T>
void put_columns(const magr::matrix<T>& part, index_t column, index_t columns, std::uint8_t* whole) {
    for (index_t i = 0; i < part.rows(); ++i)
        std::memcpy(whole + (i * columns + column) * static_cast<index_t>(sizeof(T)), &part(i, 0),
                    static_cast<std::size_t>(part.cols()) * sizeof(T));
}

/// Packs the outputs from `row` on into the bytes of the whole tensor.
void put_rows(const magr::quantized_matrix<float>& q, index_t row, const engine_tensor& to) {
    const auto rows = static_cast<index_t>(to.rows), cols = static_cast<index_t>(to.cols);
    auto* const bytes = static_cast<std::uint8_t*>(to.data);
    if (to.type == ENGINE_Q4_0) {
        const magr::gguf_tensor packed = magr::pack_gguf(q, magr::ggml_type::q4_0);
        std::copy(packed.data.begin(), packed.data.end(), bytes + row * (cols / ENGINE_Q4_0_BLOCK * ENGINE_Q4_0_BLOCK_BYTES));
        return;
    }
    const magr::gptq_tensors packed = magr::pack_gptq(q, magr::gptq_version::v1);
    const index_t codes = rows * cols / 2, zeros = cols / ENGINE_GPTQ_GROUP * rows / 2;  // bytes
    put_columns(packed.qweight, row, rows, bytes);
    put_columns(packed.qzeros, row / 8, rows / 8, bytes + codes);  // 8 in a word
    put_columns(packed.scales, row, rows, bytes + codes + zeros);
}

[[nodiscard]] magr::packed_format format_of(engine_type type) {
    if (type == ENGINE_Q4_0) return magr::packed_format::gguf_q4_0;
    if (type == ENGINE_GPTQ) return magr::packed_format::gptq_v1;
    throw magr::option_error("the type of the result must be Q4_0 or GPTQ");
}

/// Quantizes a tensor in strips of rows. They share what depends on H alone, and give the same bits as the whole tensor at once. So memory
/// does not grow with the number of rows, and each strip that is done is progress.
template <class T>
class tensor_quantizer {
public:
    tensor_quantizer(magr::matrix_view<const T> W, const magr::matrix<float>& H, const magr::grid_options& grid,
                     const engine_quantize_options& options)
        : W_(W), options_(options), grid_(grid), H_(H) {
        magr_.alpha = options.penalty;
        magr_.group_size = grid.group_size;
        optq_.precision = magr::factor_precision::float64;  // automatic would begin in float, and need more memory where that fails
        optq_.measure_error = false;                        // a third of the time
    }

    /// Bytes that this many threads need, at most. What MagR derives from H stays while OPTQ runs, so the two add up.
    [[nodiscard]] std::size_t bytes(index_t threads) const {
        const index_t rows = rows_of_strip(threads);
        const std::size_t strip = static_cast<std::size_t>(rows * W_.cols()) * (sizeof(T) + 1);  // a copy for MagR, and what is packed
        return strip + magr::workspace_bytes<T>(rows, W_.cols(), magr_, threads) +
               magr::workspace_bytes<T>(rows, W_.cols(), grid_, optq_, threads);
    }

    void run(index_t threads, const engine_tensor& to, engine_quantize_report& report) {
        thread_share share{options_.pool, static_cast<std::size_t>(threads)};
        const magr::callback_executor pool(&thread_share::run, &share, threads);
        magr::watched_executor exec(pool, [&](const magr::loop_progress&) { return tell(); });
        for (index_t row = 0; row < W_.rows(); row += rows_of_strip(threads)) {
            const index_t rows = (std::min)(rows_of_strip(threads), W_.rows() - row);
            const auto result = quantize(W_.block(row, 0, rows, W_.cols()), exec);
            if (!result) throw std::runtime_error(std::string("OPTQ: ") + to_string(result.status));
            report.damping = (std::max)(report.damping, result.damping);
            put_rows(result.quantized, row, to);
            done_ = static_cast<double>(row + rows) / static_cast<double>(W_.rows());
            if (tell() == magr::observer_flow::stop) throw magr::cancelled("cancelled between two strips");
        }
    }

private:
    [[nodiscard]] index_t rows_of_strip(index_t threads) const { return (std::min)(W_.rows(), 256 * threads); }  // OPTQ's tasks: 256 rows

    [[nodiscard]] magr::observer_flow tell() noexcept {
        if (!cancelled_ && options_.progress != nullptr) cancelled_ = !options_.progress(options_.user, done_);
        return cancelled_ ? magr::observer_flow::stop : magr::observer_flow::proceed;
    }

    [[nodiscard]] magr::optq_result<float> quantize(magr::matrix_view<const T> strip, magr::executor_ref exec) {
        if (options_.penalty == 0) return magr::quantize_optq(strip, H_, grid_, optq_, exec);
        magr::matrix<T> M(strip.rows(), strip.cols());
        std::copy(strip.data(), strip.data() + strip.rows() * strip.cols(), M.data());
        // MagR is half of the strip; noexcept spares the library a copy of M, from which it would restore M
        const double before = done_, half = 0.5 * static_cast<double>(strip.rows()) / static_cast<double>(W_.rows());
        const auto observer = [&](const magr::preprocess_progress& p) noexcept {
            done_ = before + half * static_cast<double>(p.rows_done) / static_cast<double>(p.rows);
            return tell();
        };
        const magr::stop_reason stopped = magr::preprocess(M, H_, magr_, observer, exec).stopped;
        if (cancelled_) throw magr::cancelled("cancelled during MagR");
        if (stopped == magr::stop_reason::not_factored) throw std::runtime_error("MagR: the calibration is no Gram matrix");
        return magr::quantize_optq(M, H_, grid_, optq_, exec);
    }

    magr::matrix_view<const T> W_;
    const engine_quantize_options& options_;
    magr::grid_options grid_;
    magr::preprocess_options magr_;
    magr::optq_options optq_;
    magr::hessian H_;
    double done_ = 0;  // a fraction
    bool cancelled_ = false;
};

[[nodiscard]] magr::matrix<float> unpacked(const engine_tensor& t) {
    const auto rows = static_cast<index_t>(t.rows), cols = static_cast<index_t>(t.cols);
    const auto* bytes = static_cast<const std::uint8_t*>(t.data);
    if (t.type == ENGINE_Q4_0)
        return magr::unpack_gguf({magr::ggml_type::q4_0, rows, cols, {bytes, bytes + engine_tensor_bytes(&t)}}).dequantize();
    magr::gptq_tensors packed{magr::gptq_version::v1, ENGINE_GPTQ_BITS, ENGINE_GPTQ_GROUP, {}, {}, {}, {}};
    const auto take = [&](auto& part, index_t part_rows, index_t part_cols) {
        part = std::remove_reference_t<decltype(part)>(part_rows, part_cols);
        const std::size_t size = static_cast<std::size_t>(part_rows * part_cols) * sizeof *part.data();
        std::memcpy(part.data(), bytes, size);
        bytes += size;
    };
    const index_t groups = cols / ENGINE_GPTQ_GROUP;
    take(packed.qweight, cols / 8, rows);
    take(packed.qzeros, groups, rows / 8);
    take(packed.scales, groups, rows);
    for (index_t j = 0; j < cols; ++j) packed.g_idx.push_back(static_cast<std::int32_t>(j / ENGINE_GPTQ_GROUP));
    return magr::unpack_gptq(packed).dequantize();
}

}  // namespace

engine_calibration* engine_calibration_new(size_t inputs) {
    auto* const calibration = new (std::nothrow) engine_calibration;
    const engine_status status = guarded(nullptr, [&](auto) {
        if (calibration != nullptr) calibration->sum.emplace(static_cast<index_t>(inputs));
        return ENGINE_OK;
    });
    if (status == ENGINE_OK) return calibration;
    delete calibration;
    return nullptr;
}

void engine_calibration_free(engine_calibration* calibration) { delete calibration; }

engine_status engine_calibration_add(engine_calibration* calibration, const engine_tensor* inputs, engine_pool* pool, engine_error* error) {
    return guarded(error, [&](const auto& failed) {
        if (!calibration->sum) return failed(ENGINE_BAD_ARGUMENT, "the calibration is finished");
        thread_share share{pool, engine_pool_threads(pool)};
        const magr::callback_executor exec(&thread_share::run, &share, static_cast<index_t>(share.threads));
        with_view(*inputs, [&](auto X) { calibration->sum->add(X, exec); });
        return ENGINE_OK;
    });
}

engine_status engine_calibration_finish(engine_calibration* calibration, engine_error* error) {
    return guarded(error, [&](const auto& failed) {
        if (!calibration->sum) return failed(ENGINE_BAD_ARGUMENT, "the calibration is finished");
        calibration->H = std::move(*calibration->sum).gram();
        calibration->sum.reset();
        return ENGINE_OK;
    });
}

engine_status engine_quantize(const engine_tensor* tensor, const engine_calibration* calibration, const engine_quantize_options* options,
                              engine_tensor* quantized, engine_quantize_report* report, engine_error* error) {
    return guarded(error, [&](const auto& failed) {
        const magr::packed_format format = format_of(options->type);
        const magr::grid_options grid = magr::grid_options_for(format);
        magr::validate({static_cast<index_t>(tensor->rows), static_cast<index_t>(tensor->cols)}, {.grid = grid}, format);

        engine_tensor to{tensor->name, options->type, tensor->rows, tensor->cols, nullptr};
        std::unique_ptr<void, void (*)(void*)> data(std::malloc(engine_tensor_bytes(&to)), &std::free);
        if (data == nullptr) throw std::bad_alloc();
        to.data = data.get();
        engine_quantize_report done{1, 0, 0};
        const engine_status status = with_view(*tensor, [&](auto W) {
            if (calibration == nullptr) {
                put_rows(magr::quantize_rtn(W, grid), 0, to);
                return ENGINE_OK;
            }
            tensor_quantizer quantizer(W, calibration->H, grid, *options);
            auto threads = static_cast<index_t>(engine_pool_threads(options->pool));
            while (threads > 1 && quantizer.bytes(threads) > options->memory_budget) --threads;
            done.threads = static_cast<std::size_t>(threads);
            done.planned = quantizer.bytes(threads);
            if (done.planned > options->memory_budget) {
                const std::string needs = std::string(tensor->name) + " needs " + std::to_string(done.planned) + " bytes";
                return failed(ENGINE_OVER_BUDGET, needs.c_str());
            }
            quantizer.run(threads, to, done);
            return ENGINE_OK;
        });
        if (status != ENGINE_OK) return status;
        to.data = data.release();
        *quantized = to;
        *report = done;
        return ENGINE_OK;
    });
}

engine_status engine_output_error(const engine_tensor* tensor, const engine_tensor* quantized, const engine_calibration* calibration,
                                  double* output_error, engine_error* error) {
    return guarded(error, [&](auto) {
        with_view(*tensor, [&](auto W) { *output_error = magr::output_error(W, unpacked(*quantized), calibration->H); });
        return ENGINE_OK;
    });
}
