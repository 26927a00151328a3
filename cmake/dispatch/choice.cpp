// SPDX-License-Identifier: MIT
// Chooses the instruction set. Compiled for the host's, whose name `forwarders.cmake` reads from a symbol of this unit.
#include <atomic>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <magr/detail/text.hpp>
#include <magr/dispatch.hpp>
#include <magr/error.hpp>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {
extern const char host_of_dispatch;
const char host_of_dispatch = 0;
}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail

extern "C" {

/// Addresses of a set's functions, in the order of the forwarders.
using magr_dispatch_functions = const void* const*;

#if defined(__x86_64__)
// Written by forwarders.cmake.
extern const void* const magr_dispatch_avx512[] __attribute__((visibility("hidden")));
extern const void* const magr_dispatch_avx2[] __attribute__((visibility("hidden")));
extern const void* const magr_dispatch_sse4_2[] __attribute__((visibility("hidden")));
#endif

/// The set in use; null until one is chosen. The forwarders read it.
extern std::atomic<magr_dispatch_functions> magr_dispatch_chosen __attribute__((visibility("hidden")));
constinit std::atomic<magr_dispatch_functions> magr_dispatch_chosen{nullptr};
}

namespace magr::dispatch {
namespace {

struct instruction_set {
    std::string_view name;
    magr_dispatch_functions functions;
    bool (*runs)();
};

#if defined(__x86_64__)
// They ask whether the operating system saves the registers, too.
bool runs_sse4_2() { return __builtin_cpu_supports("sse4.2"); }
bool runs_avx2() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
bool runs_avx512() {
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

// The best first.
constexpr instruction_set sets[] = {
    {"avx512", magr_dispatch_avx512, runs_avx512}, {"avx2", magr_dispatch_avx2, runs_avx2}, {"sse4_2", magr_dispatch_sse4_2, runs_sse4_2}};
#else
// The only one, so nothing is forwarded: the library's functions have the names that the host declares.
constexpr const void* no_functions[] = {nullptr};
constexpr instruction_set sets[] = {{"neon", no_functions, [] { return true; }}};
#endif

std::vector<const instruction_set*> runnable() {
#if defined(__x86_64__)
    __builtin_cpu_init();  // static objects may call the library before the compiler's own initialisation
#endif
    std::vector<const instruction_set*> found;
    for (const instruction_set& set : sets) {
        if (set.runs()) found.push_back(&set);
    }
    return found;
}

std::string names_of(const std::vector<const instruction_set*>& list) {
    std::string names;
    for (const instruction_set* set : list) names += (names.empty() ? "" : ", ") + std::string(set->name);
    return names.empty() ? "none" : names;
}

/// The set of this name, if the processor runs it.
/// @param asked_by  who named it, for messages
const instruction_set& named(const char* asked_by, std::string_view name) {
    const auto found = runnable();
    for (const instruction_set* set : found) {
        if (set->name == name) return *set;
    }
    for (const instruction_set& set : sets) {
        if (set.name == name)
            detail::raise<option_error>(
                detail::concat(asked_by, ": this processor cannot run '", name, "', of the sets of the library it runs ", names_of(found)));
    }
    std::vector<const instruction_set*> all;
    for (const instruction_set& set : sets) all.push_back(&set);
    detail::raise<option_error>(detail::concat(asked_by, ": the instruction set must be one of ", names_of(all), ", it is '", name, "'"));
}

/// What a first call chooses.
const instruction_set& preferred() {
    constexpr const char* variable = "MAGR_INSTRUCTION_SET";
    const char* const name = std::getenv(variable);
    if (name && *name) return named(variable, name);
    const auto found = runnable();
    if (found.empty()) detail::raise<option_error>("magr::dispatch: this processor runs no instruction set of the library");
    return *found.front();
}

std::string_view name_of(magr_dispatch_functions functions) {
    for (const instruction_set& set : sets) {
        if (set.functions == functions) return set.name;
    }
    return {};  // not reached: only functions of `sets` are chosen
}

/// Returns the set in use, which is `set` if none was.
magr_dispatch_functions choose(const instruction_set& set) {
    magr_dispatch_functions chosen = nullptr;
    return magr_dispatch_chosen.compare_exchange_strong(chosen, set.functions) ? set.functions : chosen;
}

}  // namespace

std::vector<std::string_view> available() {
    std::vector<std::string_view> names;
    for (const instruction_set* set : runnable()) names.push_back(set->name);
    return names;
}

void use(std::string_view name) {
    const instruction_set& set = named("dispatch::use", name);
    const magr_dispatch_functions chosen = choose(set);
    if (chosen != set.functions)
        detail::raise<option_error>(detail::concat("dispatch::use: '", name_of(chosen), "' is in use, it is too late for '", name, "'"));
}

std::string_view used() {
    const magr_dispatch_functions chosen = magr_dispatch_chosen.load();
    return name_of(chosen ? chosen : choose(preferred()));
}

}  // namespace magr::dispatch

/// What the first call of any forwarder calls.
extern "C" __attribute__((visibility("hidden"))) magr_dispatch_functions magr_dispatch_choose() {
    const magr_dispatch_functions chosen = magr_dispatch_chosen.load();
    return chosen ? chosen : magr::dispatch::choose(magr::dispatch::preferred());
}
