// SPDX-License-Identifier: MIT
// Compiled once for each MAGR_ARGUMENT by CMakeLists.txt, which holds the answer that the compiler must give.
#include <Eigen/Core>
#include <vector>

#include <magr/magr.hpp>

Eigen::MatrixXf A(2, 2), B(2, 2), H(2, 2);
const Eigen::MatrixXf constant(2, 2);
Eigen::MatrixXi integers(2, 2);
Eigen::MatrixXcf complex_numbers(2, 2);
std::vector<float> list(4);
float* pointer = list.data();
std::vector<std::vector<float>> nested(2, list);
float* pointers[2] = {pointer, pointer};

int main() { static_cast<void>(magr::preprocess(MAGR_ARGUMENT, H)); }
