// SPDX-License-Identifier: MIT
#include "common/npy.hpp"

#include "reading.hpp"

namespace {

/// The result must be a matrix with all of its elements, and writing it and reading it back must give the same matrix.
void read_all(const std::filesystem::path& path) {
    examples::npy_matrix m = examples::read_npy(path);
    require(m.elements.size() < std::filesystem::file_size(path));
    examples::with_view(m, [&]<class T>(magr::matrix_view<T> view) {
        require(m.elements.size() == static_cast<std::size_t>(view.rows() * view.cols()) * sizeof(T));
        std::size_t numbers = 0;  // counted so that every element is read
        for (magr::index_t i = 0; i < view.rows() && !view.empty(); ++i)
            for (magr::index_t j = 0; j < view.cols(); ++j) numbers += view(i, j) == view(i, j) ? 1 : 0;
        require(numbers <= m.elements.size());
    });
    read_or_refuse("again.npy", examples::to_npy(m), [&](const std::filesystem::path& written) {
        const examples::npy_matrix again = examples::read_npy(written);
        require(again.type == m.type && again.order == m.order && again.rows == m.rows && again.cols == m.cols);
        require(again.elements == m.elements);
    });
}

/// The bytes before a header of this length in a file of version 1.
std::string prefix(std::size_t length) {
    return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(length & 255) + static_cast<char>(length >> 8 & 255);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = text_of(data, size);
    read_or_refuse("whole.npy", text, read_all);
    split_after_header(text, [](const std::string& header, const std::string& rest) {
        read_or_refuse("prefixed.npy", prefix(header.size()) + header + rest, read_all);
    });
    return 0;
}
