// SPDX-License-Identifier: MIT
#pragma once

/// Everything of magr. Notation, in documentation and code alike:
///
/// | symbol       | meaning                                                                                             |
/// |--------------|-----------------------------------------------------------------------------------------------------|
/// | `W`          | weights, out x in, one row per output channel (as in PyTorch's `Linear.weight` and in ggml)          |
/// | `W0`         | the original weights                                                                                |
/// | `X`          | calibration inputs, tokens x in                                                                     |
/// | `H`          | Gram matrix `X^T X`, in x in; any positive multiple works                                           |
/// | `lambda_max` | largest eigenvalue of `H`                                                                           |
/// | `alpha`      | l_inf penalty per row or group, in the units of `H / lambda_max`                                     |
/// | `tau`        | clipping threshold returned by a prox                                                               |
/// | `Q`          | dequantized weights, out x in                                                                       |
/// | `s`, `z`     | scale and zero point of a grid; code `c` has the value `s (c - z)`, `c` in 0..`maxq = 2^bits - 1`    |

#include <magr/attention/boa.hpp>
#include <magr/attention/row_hessian.hpp>
#include <magr/attention/value_hessian.hpp>
#include <magr/calibration/activation_quantizer.hpp>
#include <magr/calibration/gram.hpp>
#include <magr/calibration/gram_by_length.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/calibration/range_vs_length.hpp>
#include <magr/calibration/resegment.hpp>
#include <magr/compensate_drift.hpp>
#include <magr/drift/drift.hpp>
#include <magr/error.hpp>
#include <magr/layer/coupled_rows.hpp>
#include <magr/matrix/armadillo.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/mdspan.hpp>
#include <magr/matrix/opencv.hpp>
#include <magr/matrix/xtensor.hpp>
#include <magr/pack.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/preprocess.hpp>
#include <magr/prox.hpp>
#include <magr/quantize.hpp>
#include <magr/quantize_automatic.hpp>
#include <magr/quantize_layer.hpp>
#include <magr/quantize_quip.hpp>
#include <magr/transform/aqas.hpp>
#include <magr/transform/column_scaling.hpp>
#include <magr/transform/fuse_scaling.hpp>
#include <magr/transform/incoherence.hpp>
#include <magr/transform/rotation_transform.hpp>
#include <magr/transform/transform.hpp>
#include <magr/transform/transformed_matrix.hpp>
#include <magr/validate.hpp>
#include <magr/version.hpp>
