// Compiled once for each MAGR_ARGUMENT by tests/compile/CMakeLists.txt, which says what the compiler must answer.
#include <Eigen/Core>
#include <vector>

#include <magr/matrix/eigen.hpp>

Eigen::MatrixXf A(2, 2), B(2, 2);
const Eigen::MatrixXf constant(2, 2);
Eigen::MatrixXi integers(2, 2);
Eigen::MatrixXcf complex_numbers(2, 2);
std::vector<float> list(4);

int main() { static_cast<void>(magr::as_mutable_view(MAGR_ARGUMENT)); }
