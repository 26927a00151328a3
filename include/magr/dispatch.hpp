// SPDX-License-Identifier: MIT
#pragma once

#include <string_view>
#include <vector>

#include <magr/config.hpp>

#ifndef MAGR_COMPILED
#error "magr/dispatch.hpp is for programs that link magr::dispatch, which defines MAGR_COMPILED"
#endif

/// The choice of an instruction set when the program runs, for hosts that link `magr::dispatch`: one binary for all processors.
///
/// `magr::dispatch` takes the place of `magr::compiled`. A host includes the same headers, calls the same functions and needs no flag for
/// an instruction set. The library contains the units of `magr::compiled` once for each instruction set. Each set is linked into one object
/// in which every symbol is local but the functions that headers only declare, so sets and host share no function of the library, of Eigen
/// or of the standard library. Those functions are also defined under the names that the host's headers declare; there they only jump to
/// the function of the set in use, whatever their arguments are. The first call chooses the set: what `use` or the environment variable
/// `MAGR_INSTRUCTION_SET` names, or else the best that the processor runs. A host for another instruction set than the library was built
/// for does not link, and neither does one that calls what the library lacks.
///
/// What headers define themselves is compiled by the host, with its own instructions: `prox_linf` and `project_l1_ball`, views and
/// executors, and what takes a type of yours, such as `round_onto` and `quantize_sequentially`.
///
/// @par Numerics  Sets differ in the last bits of what they compute, as builds of `magr::compiled` with different flags do; so a code may
///                differ where two are equally near. The same set gives the same bits on every processor
/// @par Threads   any thread may call every function here at any time
/// @par Errors    option_error, from the first call of any function of the library, if `MAGR_INSTRUCTION_SET` names a set that is unknown
///                or that the processor cannot run, or if the processor runs none
namespace magr::dispatch {

/// The instruction sets of the library that this processor runs, the best first: of "avx512" (F, BW, DQ, VL), "avx2" (with FMA and F16C)
/// and "sse4_2" on x86-64, and "neon" on 64-bit ARM.
[[nodiscard]] std::vector<std::string_view> available();

/// Chooses the instruction set by name, which the environment then has no say in. Call it before any other function of the library: the
/// choice is final.
/// @par Errors  option_error if the name is unknown, the processor cannot run the set, or another one is in use
void use(std::string_view name);

/// The name of the set in use. Chooses it if nothing has yet.
[[nodiscard]] std::string_view used();

}  // namespace magr::dispatch
