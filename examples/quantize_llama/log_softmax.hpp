// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>

#include "quantize_llama/model.hpp"

namespace examples {

/// One position's logits, shifted by their maximum, with the logarithm of the sum of their exponentials.
struct log_softmax {
    explicit log_softmax(const Eigen::Ref<const row_f>& logits)
        : shifted(logits.array() - logits.maxCoeff()), exponentials(shifted.exp()), log_sum(std::log(exponentials.cast<double>().sum())) {}

    using array = Eigen::Array<float, 1, Eigen::Dynamic>;
    array shifted;
    array exponentials;
    double log_sum;
};

/// KL(p || q) = sum p (log p - log q)
[[nodiscard]] inline double kl_divergence(const log_softmax& p, const log_softmax& q) {
    const double difference = (p.exponentials * (p.shifted - q.shifted)).cast<double>().sum() / std::exp(p.log_sum);
    return difference + q.log_sum - p.log_sum;
}

}  // namespace examples
