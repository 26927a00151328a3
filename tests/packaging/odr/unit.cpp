// Uses the whole library; compiled several times into one program, under the name MAGR_UNIT.
#include <Eigen/Core>

#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>

double MAGR_UNIT() {
    Eigen::MatrixXf W(2, 3);
    W << 1, 2, 3, 4, 5, 6;
    magr::matrix<double> out(2, 3);
    magr::detail::require_finite("unit", "W", magr::as_const_view(W));
    magr::detail::store(magr::detail::load<float>(magr::as_view(W)), magr::as_mutable_view(out));
    return out(1, 2);
}
