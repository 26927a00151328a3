// SPDX-License-Identifier: MIT
#pragma once

#include <string_view>

namespace examples {

/// Whether a key of config.json says nothing about what a model computes: names, versions, ids of tokens, types of storage, training, how
/// texts are generated, which kernels compute it.
[[nodiscard]] bool changes_no_output(std::string_view key);

}  // namespace examples
