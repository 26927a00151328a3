// SPDX-License-Identifier: MIT
#include "quantize_llama/calibration_gram.hpp"

#include <magr/calibration/hessian.hpp>
#include <magr/quantize/choose_damping.hpp>
#include <utility>

namespace examples {

bool chooses_damping(const quantization& how) { return how.ggml && is_k_quant(*how.ggml) && uses_optq(how.method) && !how.damping; }

calibration_gram::calibration_gram(magr::index_t inputs, bool chooses_damping) : fitting_(inputs) {
    if (chooses_damping) held_out_.emplace(inputs);
}

void calibration_gram::add(std::size_t c, std::size_t chunks, const matrix_f& x, magr::thread_pool& pool) {
    (held_out_ && is_held_out(c, chunks) ? *held_out_ : fitting_).add(x, pool);
}

void calibration_gram::finish(layer_calibration& found, magr::thread_pool& pool) {
    if (held_out_ && held_out_->tokens() > 0) {
        const magr::hessian fitting(fitting_, 0, pool), held_out(*held_out_, 0, pool);
        found.damping = magr::choose_damping(fitting, held_out, magr::default_dampings, pool).damping;
        fitting_.merge(*held_out_, pool);
    }
    held_out_.reset();
    found.gram = fitting_.gram(pool);
    found.tokens = fitting_.tokens();
    fitting_ = magr::gram_accumulator<double>(1);
}

}  // namespace examples
