// SPDX-License-Identifier: MIT
// Code that links magr::compiled and calls functions must include neither Eigen, nor xsimd's batches, nor streams.
#include <magr/attention/boa.hpp>
#include <magr/attention/row_hessian.hpp>
#include <magr/attention/value_hessian.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/compensate_drift.hpp>
#include <magr/pack.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize.hpp>
#include <magr/quantize_automatic.hpp>
#include <magr/quantize_layer.hpp>
#include <magr/quantize_quip.hpp>
#include <magr/validate.hpp>

magr::layer_result<float> call(const magr::matrix<float>& X, magr::matrix<float>& W) {
    magr::gram_accumulator<double> calibration(X.cols());
    calibration.add(X);
    const magr::hessian H(calibration);
    magr::preprocess(W, H);
    static_cast<void>(magr::quantize_quip(W, H));
    return magr::quantize_layer(W, H);
}

#ifdef EIGEN_WORLD_VERSION
#error "Eigen is included"
#endif
#ifdef XSIMD_HPP
#error "xsimd's batches are included"
#endif
#if defined(_GLIBCXX_SSTREAM) || defined(_LIBCPP_SSTREAM)
#error "<sstream> is included"
#endif
