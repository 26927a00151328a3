// SPDX-License-Identifier: MIT
// One function for each function of the library that is recorded: it runs one case, and adds its line. The text of a case sets the element
// types (W: f64, f32, f16, bf16; H: f64, f32), the layout of W (rows, columns, padded, strided), the number of workers, and options; see
// library.hpp.
#pragma once

#include <string>

#include "recorder.hpp"

namespace record {

using call = void(recorder& out, const std::string& layer, const std::string& text);

call preprocess;  // also `stop_after`: rows after which the observer stops it
call compensate_drift;

call fit_grids;          // `gram no`: without H
call fit_k_quant_grids;  // `gram no`: without H
call fit_row;            // one grid for the first row

call quantize_rtn;   // `gram no`; `rounding stochastic`; `given yes`: onto grids fitted before
call quantize_optq;  // `given yes`
call refine_codes;
call refine_scales;
call output_error;

call quantize_layer;      // `accumulator f32`: uses the Gram matrix of an accumulator instead of H
call quantize_automatic;  // likewise

call round_onto_drift;  // `method gpfq`, `gptaq` or `qronos`
call quantize_quip;
call quantize_boa;  // `two_heads yes`
call quantize_owq;
call quantize_dint;
call quantize_coupled_rows;
call bound_errors;

call formats_that_take;  // which formats can hold a matrix of this shape with these grids, and which grids they suggest
call pack_all;           // into each format that can hold it, and back

call accumulate_gram;   // `batch`, tokens at once; `sum`, type of the sums; `merge yes`
call accumulate_drift;  // likewise

call order_columns;
call factor_feedback;
call quantize_sequentially;
call largest_eigenvalue;
call cholesky;
call spd_inverse;
call triangular_solve;

call project_l1_ball;  // `vectors yes`: of spans instead of a matrix; `metric yes`
call prox_linf;        // likewise

}  // namespace record
