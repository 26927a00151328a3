// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <magr/matrix/matrix_view.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.hpp"
#include "common/file_kind.hpp"
#include "common/files.hpp"

/// Matrices in NumPy's .npy files: two dimensions, little-endian float16, float32 or float64, C or Fortran order.
namespace examples {

static_assert(std::endian::native == std::endian::little, "the elements are used as they lie in the file");

enum class npy_type { float16, float32, float64 };

/// A matrix as it was in its file.
struct npy_matrix {
    npy_type type = npy_type::float32;
    magr::index_t rows = 0;
    magr::index_t cols = 0;
    magr::matrix_layout order = magr::matrix_layout::row_major;
    std::vector<std::byte> elements;
};

/// Calls `function` with the matrix as a `matrix_view` of its element type.
template <class Function>
decltype(auto) with_view(npy_matrix& m, Function&& function) {
    const auto view = [&]<class T>(T) {
        const magr::index_t leading = m.order == magr::matrix_layout::row_major ? m.cols : m.rows;
        return magr::matrix_view<T>(reinterpret_cast<T*>(m.elements.data()), m.rows, m.cols, leading, m.order);
    };
    switch (m.type) {
        case npy_type::float16: return function(view(Eigen::half{}));
        case npy_type::float64: return function(view(double{}));
        default: return function(view(float{}));
    }
}

namespace detail {

inline constexpr std::string_view npy_magic = "\x93NUMPY";

[[nodiscard]] inline npy_type npy_type_of(std::string_view descr, const std::string& file) {
    if (descr == "<f2") return npy_type::float16;
    if (descr == "<f4") return npy_type::float32;
    if (descr == "<f8") return npy_type::float64;
    refuse(file, ": elements of type '", descr, "', expected little-endian float16, float32 or float64 ('<f2', '<f4', '<f8')");
}

[[nodiscard]] inline std::size_t size_of(npy_type type) { return type == npy_type::float16 ? 2 : type == npy_type::float32 ? 4 : 8; }

/// Reads the header, a Python dictionary with the keys descr, fortran_order and shape in any order.
class npy_header_parser {
public:
    npy_header_parser(std::string_view text, const std::string& file) : text_(text), file_(file) {}

    void parse(npy_matrix& m) {
        bool has_descr = false, has_order = false, has_shape = false;
        expect('{');
        while (!accept('}')) {
            const std::string_view key = quoted();
            expect(':');
            if (key == "descr" && !std::exchange(has_descr, true)) {
                m.type = npy_type_of(quoted(), file_);
            } else if (key == "fortran_order" && !std::exchange(has_order, true)) {
                if (word("True"))
                    m.order = magr::matrix_layout::col_major;
                else if (!word("False"))
                    malformed();
            } else if (key == "shape" && !std::exchange(has_shape, true)) {
                shape(m);
            } else {
                malformed();
            }
            if (!accept(',')) {
                expect('}');
                break;
            }
        }
        skip();
        if (!text_.empty() || !has_descr || !has_order || !has_shape) malformed();
    }

private:
    [[noreturn]] void malformed() const { refuse(file_, ": malformed .npy header"); }
    void skip() {
        const std::size_t at = text_.find_first_not_of(" \t\n");
        text_.remove_prefix(at == std::string_view::npos ? text_.size() : at);
    }
    bool accept(char c) {
        skip();
        if (text_.empty() || text_.front() != c) return false;
        text_.remove_prefix(1);
        return true;
    }
    void expect(char c) {
        if (!accept(c)) malformed();
    }
    bool word(std::string_view expected) {
        skip();
        if (!text_.starts_with(expected)) return false;
        text_.remove_prefix(expected.size());
        return true;
    }
    std::string_view quoted() {
        skip();
        if (text_.empty() || (text_.front() != '\'' && text_.front() != '"')) malformed();
        const std::size_t end = text_.find(text_.front(), 1);
        if (end == std::string_view::npos) malformed();
        const std::string_view content = text_.substr(1, end - 1);
        text_.remove_prefix(end + 1);
        return content;
    }
    magr::index_t number() {
        skip();
        magr::index_t value = 0;
        std::size_t digits = 0;
        for (; digits < text_.size() && text_[digits] >= '0' && text_[digits] <= '9'; ++digits) {
            value = value * 10 + (text_[digits] - '0');
            if (value > std::numeric_limits<std::int32_t>::max()) refuse(file_, ": a dimension is too large");
        }
        if (digits == 0) malformed();
        text_.remove_prefix(digits);
        return value;
    }
    void shape(npy_matrix& m) {
        std::vector<magr::index_t> dimensions;
        expect('(');
        while (!accept(')')) {
            dimensions.push_back(number());
            if (!accept(',')) {
                expect(')');
                break;
            }
        }
        if (dimensions.size() != 2) refuse(file_, ": has ", dimensions.size(), " dimensions, expected a matrix with 2");
        m.rows = dimensions[0];
        m.cols = dimensions[1];
    }

    std::string_view text_;
    std::string file_;
};

}  // namespace detail

[[nodiscard]] inline npy_matrix read_npy(const std::filesystem::path& path) {
    const std::string name = path.string();
    input_file file(path);
    unsigned char start[12] = {};
    if (file.size() < sizeof start) refuse(name, ": not a .npy file, it has only ", file.size(), " bytes");
    file.read(0, start, sizeof start);
    if (std::memcmp(start, detail::npy_magic.data(), detail::npy_magic.size()) != 0) {
        std::string beginning(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), 64)), '\0');
        file.read(0, beginning.data(), beginning.size());
        const auto kind = mistaken_kind(beginning);
        refuse(name, ": not a .npy file", kind.empty() ? "" : ", it is ", kind);
    }
    if (start[6] < 1 || start[6] > 3) refuse(name, ": .npy version ", int{start[6]}, ", expected 1, 2 or 3");
    const std::uint64_t prefix = start[6] == 1 ? 10 : 12;
    std::uint64_t length = start[8] | std::uint64_t{start[9]} << 8;
    if (start[6] > 1) length |= std::uint64_t{start[10]} << 16 | std::uint64_t{start[11]} << 24;
    if (length > file.size() - prefix || length > 65536) refuse(name, ": .npy header of ", length, " bytes in a file of ", file.size());
    std::string header(static_cast<std::size_t>(length), ' ');
    if (length > 0) file.read(prefix, header.data(), length);

    npy_matrix m;
    detail::npy_header_parser(header, name).parse(m);
    const std::uint64_t expected =
        static_cast<std::uint64_t>(m.rows) * static_cast<std::uint64_t>(m.cols);  // no overflow: each is below 2^31
    const std::uint64_t bytes = file.size() - prefix - length;
    const std::uint64_t each = detail::size_of(m.type);
    if (bytes % each != 0 || bytes / each != expected)
        refuse(name, ": ", bytes, " bytes of elements, expected ", m.rows, " x ", m.cols, " of ", each, " bytes");
    m.elements.resize(static_cast<std::size_t>(bytes));
    if (bytes > 0) file.read(prefix + length, m.elements.data(), bytes);
    return m;
}

/// The bytes of a .npy file.
[[nodiscard]] inline std::string to_npy(const npy_matrix& m) {
    const char* const descr = m.type == npy_type::float16 ? "<f2" : m.type == npy_type::float32 ? "<f4" : "<f8";
    const char* const by_columns = m.order == magr::matrix_layout::col_major ? "True" : "False";
    std::string header;
    for (const std::string_view part : {std::string_view("{'descr': '"), std::string_view(descr), std::string_view("', 'fortran_order': "),
                                        std::string_view(by_columns), std::string_view(", 'shape': (")})
        header += part;
    header += std::to_string(m.rows) + ", " + std::to_string(m.cols) + "), }";
    header.append(63 - (10 + header.size()) % 64, ' ');  // so that the elements begin at a multiple of 64
    header += '\n';
    std::string file(detail::npy_magic);
    file += {'\x01', '\x00', static_cast<char>(header.size() & 255), static_cast<char>(header.size() >> 8)};
    file += header;
    file.append(reinterpret_cast<const char*>(m.elements.data()), m.elements.size());
    return file;
}

}  // namespace examples
