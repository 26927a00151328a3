// Each case must be refused with the message that CMakeLists.txt expects; `accepted` shows that nothing else is wrong with this file.
#include <Eigen/Core>
#include <vector>

#include <magr/matrix/eigen.hpp>

Eigen::MatrixXf A(2, 2), B(2, 2);
const Eigen::MatrixXf constant(2, 2);
Eigen::MatrixXi integers(2, 2);
Eigen::Matrix<std::complex<float>, 2, 2> complex_numbers;
std::vector<float> list(4);

void accepted() { magr::as_mutable_view(A); }
void expression() { magr::as_view(A + B); }
