// Reads a column-major Eigen matrix through the installed headers.
#include <Eigen/Core>

#include <magr/matrix/eigen.hpp>
#include <magr/version.hpp>

int main() {
    Eigen::MatrixXf W(2, 3);
    W << 1, 2, 3, 4, 5, 6;
    const auto w = magr::as_view(W);
    return w(1, 2) == 6 && w.rows() == 2 && MAGR_VERSION_GE(0, 1, 0) ? 0 : 1;
}
