// SPDX-License-Identifier: MIT
// Code that uses options, views and executors must include neither Eigen, nor xsimd's batches, nor streams.
#include <magr/calibration/column_order.hpp>
#include <magr/detail/contract.hpp>
#include <magr/error.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/rounding.hpp>
#include <magr/grid/storage_type.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/pack/bit_packing.hpp>
#include <magr/pack/format.hpp>
#include <magr/parallel/callback.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/preprocess/observer.hpp>
#include <magr/preprocess/options.hpp>
#include <magr/preprocess/result.hpp>
#include <magr/version.hpp>

#ifdef EIGEN_WORLD_VERSION
#error "Eigen is included"
#endif
#ifdef XSIMD_HPP
#error "xsimd's batches are included"
#endif
#if defined(_GLIBCXX_SSTREAM) || defined(_LIBCPP_SSTREAM)
#error "<sstream> is included"
#endif
