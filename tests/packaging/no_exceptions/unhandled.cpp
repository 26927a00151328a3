// SPDX-License-Identifier: MIT
// Without exceptions and without a handler the program aborts.
#include <csignal>
#include <cstdlib>

#include <magr/prox.hpp>

int main() {
    std::signal(SIGABRT, [](int) { std::_Exit(0); });
    float weights[] = {1, -2, 3};
    magr::prox_linf(magr::matrix_view(weights, 1, 3), -1.0);
    return 1;  // the library should have aborted
}
