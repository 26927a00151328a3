// SPDX-License-Identifier: MIT
// Code that a user of the library might write, short to compile.
#include <Eigen/Core>

#include <magr/prox.hpp>
#include <span>

#ifdef PARENT_EXPECTS_OWN_XSIMD
#ifndef PARENT_OWN_XSIMD
#error "the library was compiled with another xsimd than that of the project's target"
#endif
#ifndef PARENT_XSIMD_DEFINITION
#error "the library was compiled without the definition that the project's target carries"
#endif
#endif

int main() {
    Eigen::Vector3f v(3.0f, -1.0f, 0.5f);
    magr::project_l1_ball(std::span(v.data(), 3), 1.0f);
    return v.lpNorm<1>() < 1.001f ? 0 : 1;
}
