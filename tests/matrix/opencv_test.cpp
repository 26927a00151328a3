// SPDX-License-Identifier: MIT
#include <magr/matrix/opencv.hpp>

#include <Eigen/Core>
#include <cstddef>
#include <opencv2/core/mat.hpp>
#include <vector>

#include "matrix/same_results.hpp"
#include "support/catch.hpp"

using magr::dense_matrix;
using magr::index_t;
using magr::mutable_dense_matrix;
using magr::opencv_view;
using tests::inputs;
using tests::outputs;

static_assert(mutable_dense_matrix<cv::Mat&> && mutable_dense_matrix<cv::Mat_<double>&> && mutable_dense_matrix<cv::Mat>);
static_assert(dense_matrix<const cv::Mat&> && !mutable_dense_matrix<const cv::Mat&> && !mutable_dense_matrix<const cv::Mat_<float>&>);
static_assert(!dense_matrix<cv::MatExpr> && !dense_matrix<cv::Mat_<int>> && !dense_matrix<cv::UMat>);

namespace {

template <class T>
auto elements_of(cv::Mat& m) {
    return [&m](index_t i, index_t j) -> T& { return m.at<T>(static_cast<int>(i), static_cast<int>(j)); };
}

cv::Mat zeros(index_t rows, index_t cols, int type) { return cv::Mat(static_cast<int>(rows), static_cast<int>(cols), type, cv::Scalar(0)); }

}  // namespace

TEST_CASE("OpenCV: its matrices give the same bits as magr::matrix", "[matrix][opencv]") {
    SECTION("Mat of floats") {
        cv::Mat W = zeros(outputs, inputs, CV_32F), H = zeros(inputs, inputs, CV_32F);
        tests::check_same_results(W, H, elements_of<float>(W), elements_of<float>(H));
    }
    SECTION("Mat_<double>") {
        cv::Mat_<double> W(static_cast<int>(outputs), static_cast<int>(inputs)), H(static_cast<int>(inputs), static_cast<int>(inputs));
        tests::check_same_results(W, H, elements_of<double>(W), elements_of<double>(H));
    }
    SECTION("Mat of doubles whose type is named") {
        cv::Mat W = zeros(outputs, inputs, CV_64F), H = zeros(inputs, inputs, CV_64F);
        tests::check_same_results(opencv_view<double>(W), opencv_view<double>(H), elements_of<double>(W), elements_of<double>(H));
    }
    SECTION("Mat of halves whose type is named") {
        cv::Mat W = zeros(outputs, inputs, CV_16F), H = zeros(inputs, inputs, CV_32F);
        tests::check_same_results(opencv_view<Eigen::half>(W), H, elements_of<Eigen::half>(W), elements_of<float>(H));
    }
    SECTION("a part of a Mat, and of one whose rows are padded") {
        cv::Mat all(static_cast<int>(outputs) + 2, static_cast<int>(inputs) + 3, CV_32F, cv::Scalar(7));
        cv::Mat W = all(cv::Rect(1, 1, static_cast<int>(inputs), static_cast<int>(outputs)));
        std::vector<float> memory(inputs * (inputs + 8));
        cv::Mat H(static_cast<int>(inputs), static_cast<int>(inputs), CV_32F, memory.data(), (inputs + 8) * sizeof(float));
        tests::check_same_results(W, H, elements_of<float>(W), elements_of<float>(H));
        CHECK(all.at<float>(0, 1) == 7);
        CHECK(all.at<float>(1, 0) == 7);
        CHECK(all.at<float>(1, static_cast<int>(inputs) + 1) == 7);
    }
}

TEST_CASE("OpenCV: a Mat of other elements, channels or dimensions is refused", "[matrix][opencv][error]") {
    cv::Mat bytes = zeros(2, 3, CV_8U), doubles = zeros(2, 3, CV_64F), colours = zeros(2, 3, CV_32FC3);
    const int sizes[] = {2, 3, 4};
    cv::Mat cube(3, sizes, CV_32F);
    CHECK_THROWS_AS(magr::as_view(bytes), magr::option_error);
    CHECK_THROWS_WITH(magr::as_view(doubles),
                      "opencv_view: the elements of a cv::Mat must be CV_32F, they are CV_64F; name their type, as in "
                      "opencv_view<double>(m), or convert them with convertTo");
    CHECK_THROWS_AS(opencv_view<Eigen::half>(doubles), magr::option_error);
    CHECK_THROWS_AS(magr::as_view(colours), magr::shape_error);
    CHECK_THROWS_WITH(magr::as_view(colours), "opencv_view: a cv::Mat must have 1 channel, it has 3");
    CHECK_THROWS_AS(magr::as_view(cube), magr::shape_error);
    CHECK_THROWS_WITH(magr::as_view(cube), "opencv_view: a cv::Mat must have 2 dimensions, it has 3");
}

TEST_CASE("OpenCV: rows that lie a part of an element apart are refused", "[matrix][opencv][error]") {
    std::vector<std::byte> memory(64);
    cv::Mat m(2, 3, CV_32F, memory.data(), 16);
    m.step[0] = 14;  // OpenCV's own constructors do not let it pass
    CHECK_THROWS_WITH(magr::as_view(m), "opencv_view: rows of a cv::Mat must lie a multiple of 4 bytes apart, it is 14");
}

TEST_CASE("OpenCV: what is refused leaves the other arguments as they are", "[matrix][opencv][error]") {
    cv::Mat W(2, 3, CV_32F, cv::Scalar(5)), H = zeros(3, 3, CV_64F);
    CHECK_THROWS_AS(magr::preprocess(W, H), magr::option_error);
    for (int j = 0; j < 3; ++j) CHECK(W.at<float>(1, j) == 5);
}

TEST_CASE("OpenCV: an empty Mat is an empty matrix whatever its type", "[matrix][opencv][edge]") {
    const cv::Mat none;
    CHECK(magr::as_view(none).empty());
}
