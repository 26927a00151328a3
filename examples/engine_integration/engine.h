// SPDX-License-Identifier: MIT
// What an engine in the style of C already has: tensors, a thread pool, errors as codes. This header is C as well as C++.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum engine_type {
    ENGINE_F16,
    ENGINE_BF16,
    ENGINE_Q4_0,  // blocks of ggml
    ENGINE_GPTQ   // 4 bits, groups of 128 inputs; qweight, qzeros and scales of a GPTQ checkpoint, one after the other
} engine_type;

enum { ENGINE_GPTQ_BITS = 4, ENGINE_GPTQ_GROUP = 128, ENGINE_Q4_0_BLOCK = 32, ENGINE_Q4_0_BLOCK_BYTES = 18 };

// A matrix of weights (outputs x inputs) or of activations (tokens x inputs), row after row.
typedef struct engine_tensor {
    const char* name;
    engine_type type;
    size_t rows, cols;
    void* data;
} engine_tensor;

size_t engine_tensor_bytes(const engine_tensor* tensor);

typedef enum engine_status {
    ENGINE_OK,
    ENGINE_BAD_ARGUMENT,   // a shape or an option does not fit
    ENGINE_BAD_VALUE,      // NaN, Inf, or a matrix that cannot be what it should be
    ENGINE_OVER_BUDGET,    // one thread alone would need more memory than allowed
    ENGINE_OUT_OF_MEMORY,  // the system refused
    ENGINE_CANCELLED,      // the progress callback said so
    ENGINE_FAILED          // the numbers do not allow it
} engine_status;

// Why a call failed.
typedef struct engine_error {
    char text[256];
} engine_error;

// Threads that run the tasks of one loop at a time. The caller's thread is one of them.
typedef struct engine_pool engine_pool;
typedef void (*engine_task)(void* data, size_t index, size_t thread);

engine_pool* engine_pool_new(size_t threads);
void engine_pool_free(engine_pool* pool);
size_t engine_pool_threads(const engine_pool* pool);
// Calls task(data, index, thread) for each index below count, and returns when all are done.
void engine_parallel_for(void* pool, size_t count, engine_task task, void* data);

#ifdef __cplusplus
}
#endif
