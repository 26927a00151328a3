// SPDX-License-Identifier: MIT
#pragma once

/// Converts quantized weight matrices to the bytes that engines read, and back.

#include <magr/gguf/gguf.hpp>
#include <magr/gguf/gguf_block.hpp>
#include <magr/gguf/k_quants.hpp>
#include <magr/gguf/named_tensors.hpp>
#include <magr/pack/awq.hpp>
#include <magr/pack/bit_packing.hpp>
#include <magr/pack/compressed_tensors.hpp>
#include <magr/pack/dint.hpp>
#include <magr/pack/format.hpp>
#include <magr/pack/gptq.hpp>
#include <magr/pack/matmul_nbits.hpp>
#include <magr/pack/mlx.hpp>
#include <magr/pack/named_tensors.hpp>
#include <magr/pack/stored_matrix.hpp>
