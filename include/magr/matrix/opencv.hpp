// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <string>
#include <type_traits>

#include <magr/error.hpp>
#include <magr/matrix/dense_matrix.hpp>

// As OpenCV declares it: a program without OpenCV does not need its headers.
namespace cv {
class Mat;
}  // namespace cv

namespace magr {
namespace detail {

/// Element type of a `cv::Mat_`; a plain `cv::Mat` has no static one and counts as one of floats.
template <class M>
struct opencv_element {
    using type = float;
};
template <class M>
    requires requires { typename M::value_type; }
struct opencv_element<M> {
    using type = typename M::value_type;
};

template <class M>
concept opencv_matrix = std::derived_from<M, cv::Mat> && storage_scalar<typename opencv_element<M>::type>;

/// What OpenCV calls the depth of T: CV_32F, CV_64F, CV_16F, or CV_16BF of OpenCV 5.
template <storage_scalar T>
inline constexpr int opencv_depth = std::is_same_v<T, float>    ? 5
                                    : std::is_same_v<T, double> ? 6
                                    : half_scalar<T>            ? 7
                                                                : 8;

/// OpenCV's name of a depth.
[[nodiscard]] inline std::string opencv_depth_name(int depth) {
    constexpr const char* names[] = {"CV_8U", "CV_8S", "CV_16U", "CV_16S", "CV_32S", "CV_32F", "CV_64F", "CV_16F", "CV_16BF"};
    return depth >= 0 && depth < 9 ? names[depth] : "depth " + std::to_string(depth);
}

}  // namespace detail

/// The view of a `cv::Mat`, or of a part of one, whose elements are known to be of type T. OpenCV learns the type only at run time.
///
/// @tparam T      `Eigen::half` or `_Float16` for CV_16F
/// @return        writable unless `m` is const; empty if `m` is
/// @par Errors    option_error if the elements are of another type; shape_error for more than one channel, more than two dimensions, and
///                rows that do not lie a whole number of elements apart
template <storage_scalar T, class Mat>
    requires std::derived_from<std::remove_cvref_t<Mat>, cv::Mat>
[[nodiscard]] auto opencv_view(Mat&& m) {
    using element = std::conditional_t<std::is_const_v<std::remove_reference_t<Mat>>, const T, T>;
    using std::to_string;
    if (m.empty()) return matrix_view<element>();
    if (m.dims > 2) detail::raise<shape_error>("opencv_view: a cv::Mat must have 2 dimensions, it has " + to_string(m.dims));
    if (m.channels() != 1) detail::raise<shape_error>("opencv_view: a cv::Mat must have 1 channel, it has " + to_string(m.channels()));
    if (m.depth() != detail::opencv_depth<T>)
        detail::raise<option_error>("opencv_view: the elements of a cv::Mat must be " + detail::opencv_depth_name(detail::opencv_depth<T>) +
                                    ", they are " + detail::opencv_depth_name(m.depth()) +
                                    "; name their type, as in opencv_view<double>(m), or convert them with convertTo");
    if (m.step[0] % sizeof(T) != 0)
        detail::raise<shape_error>("opencv_view: rows of a cv::Mat must lie a multiple of " + to_string(sizeof(T)) +
                                   " bytes apart, it is " + to_string(m.step[0]));
    return matrix_view<element>(reinterpret_cast<element*>(m.data), m.rows, m.cols, static_cast<index_t>(m.step[0] / sizeof(T)));
}

/// `cv::Mat_<T>`, and `cv::Mat` if its elements are floats. For elements of other types pass `opencv_view<T>(m)`. A const Mat is not
/// written to, although OpenCV itself would.
///
/// @par Errors    as `opencv_view`
template <detail::opencv_matrix M>
struct matrix_traits<M> {
    using element = typename detail::opencv_element<M>::type;

    static auto view(M& m) { return opencv_view<element>(m); }
    static auto view(const M& m) { return opencv_view<element>(m); }
};

}  // namespace magr
