// SPDX-License-Identifier: MIT
// Chooses each instruction set that its arguments name, then calls the library for the first time and prints what is in use. Prints errors.
#include <cstdio>
#include <exception>
#include <string>

#include <magr/dispatch.hpp>
#include <magr/magr.hpp>

int main(int count, char** arguments) {
    try {
        for (int i = 1; i < count; ++i) magr::dispatch::use(arguments[i]);
        magr::validate({1, 1}, magr::layer_options{});
        std::printf("%s\n", std::string(magr::dispatch::used()).c_str());
    } catch (const std::exception& failure) {
        std::printf("%s\n", failure.what());
    }
}
