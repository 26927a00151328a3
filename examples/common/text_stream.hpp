// SPDX-License-Identifier: MIT
#pragma once

#include <locale>
#include <sstream>

namespace examples {

/// A string stream that writes numbers in one way, whatever the global locale is: files and their names are made of them.
class text_stream : public std::ostringstream {
public:
    text_stream() { imbue(std::locale::classic()); }
};

}  // namespace examples
