// SPDX-License-Identifier: MIT
// What the engine calls to quantize its tensors. No function throws.
#pragma once

#include "engine.h"

#ifdef __cplusplus
extern "C" {
#endif

// Sums up the inputs that a tensor sees during calibration: add them all, then finish. Takes 4 * inputs^2 bytes and some buffers.
typedef struct engine_calibration engine_calibration;

engine_calibration* engine_calibration_new(size_t inputs);  // null without memory
void engine_calibration_free(engine_calibration* calibration);
engine_status engine_calibration_add(engine_calibration* calibration, const engine_tensor* inputs, engine_pool* pool, engine_error* error);
engine_status engine_calibration_finish(engine_calibration* calibration, engine_error* error);

typedef struct engine_quantize_options {
    engine_type type;      // of the result: ENGINE_Q4_0 or ENGINE_GPTQ
    double penalty;        // MagR's alpha; 0: OPTQ alone
    engine_pool* pool;     // its threads do the work; fewer of them if the budget says so
    size_t memory_budget;  // bytes, of everything but the tensor, its calibration and its result
    // Called on the caller's thread whenever a few tasks are done, with the fraction of the tensor that is finished. If it returns false,
    // it is not called again, and the call ends. May be null.
    bool (*progress)(void* user, double fraction);
    void* user;
} engine_quantize_options;

typedef struct engine_quantize_report {
    size_t threads;  // as many as the budget allows
    size_t planned;  // bytes, of the same as the budget: the most that they will need
    double damping;  // of H, where OPTQ could factor it: more than 0.01 if H is nearly singular
} engine_quantize_report;

// Quantizes a tensor of 16-bit floats with MagR and OPTQ, or without calibration (null) by rounding to nearest, which ignores the budget.
// The tensor is only read. `quantized` gets new data, for the caller to free; unless the status is ENGINE_OK it stays as it was.
engine_status engine_quantize(const engine_tensor* tensor, const engine_calibration* calibration, const engine_quantize_options* options,
                              engine_tensor* quantized, engine_quantize_report* report, engine_error* error);

// How much the quantized weights change the outputs: the squared change over the squared outputs.
engine_status engine_output_error(const engine_tensor* tensor, const engine_tensor* quantized, const engine_calibration* calibration,
                                  double* output_error, engine_error* error);

#ifdef __cplusplus
}
#endif
