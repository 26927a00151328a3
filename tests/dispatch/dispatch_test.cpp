// SPDX-License-Identifier: MIT
// The choice of an instruction set. The environment names the set that each run of this program must get; see CMakeLists.txt.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <magr/dispatch.hpp>
#include <magr/magr.hpp>
#include <support/catch.hpp>

namespace {

std::string message_of_use(std::string_view name) {
    try {
        magr::dispatch::use(name);
    } catch (const magr::option_error& failure) {
        return failure.what();
    }
    return "";
}

}  // namespace

// The only test case: what is chosen first in a program stays.
TEST_CASE("a program runs the instruction set that was asked for, and keeps it") {
    const auto all = magr::dispatch::available();
    REQUIRE(!all.empty());
    const char* const asked = std::getenv("MAGR_INSTRUCTION_SET");
    const std::string_view expected = asked && *asked ? std::string_view(asked) : all.front();
    CHECK(std::find(all.begin(), all.end(), expected) != all.end());

    CHECK(message_of_use("avx1024").find("dispatch::use: the instruction set must be one of ") == 0);
    CHECK(message_of_use("").find("it is ''") != std::string::npos);

    // The first calls come from several threads at once.
    std::vector<std::string> found(4);
    {
        std::vector<std::thread> threads;
        for (std::string& mine : found)
            threads.emplace_back([&mine] {
                mine = magr::problems(magr::grid_options{.bits = 99}).at(0);
                mine += magr::dispatch::used();
            });
        for (std::thread& thread : threads) thread.join();
    }
    for (const std::string& mine : found) CHECK(mine == found.front());
    CHECK(found.front().find("bits") != std::string::npos);
    CHECK(magr::dispatch::used() == expected);

    CHECK(message_of_use(expected).empty());
    for (const std::string_view name : all) {
        if (name == expected) continue;
        CHECK(message_of_use(name) ==
              "dispatch::use: '" + std::string(expected) + "' is in use, it is too late for '" + std::string(name) + "'");
    }
    CHECK(magr::dispatch::used() == expected);

    // An exception of the set, which has type information of its own, is caught as the host's.
    CHECK_THROWS_AS(magr::validate({0, 4}, magr::layer_options{}), magr::option_error);
}
