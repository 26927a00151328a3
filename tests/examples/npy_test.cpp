// SPDX-License-Identifier: MIT
#include "common/npy.hpp"

#include <filesystem>
#include <fstream>
#include <string>

#include "support/catch.hpp"

namespace {

/// A file that is removed at the end of the test.
class scratch_file {
public:
    explicit scratch_file(const std::string& contents) { std::ofstream(path_, std::ios::binary) << contents; }
    ~scratch_file() { std::filesystem::remove(path_); }
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_ =
        std::filesystem::temp_directory_path() / ("magr_npy_test_" + std::to_string(std::hash<const void*>{}(this)) + ".npy");
};

/// A version 1 file by the format's definition: magic, version, little-endian length, header, elements.
std::string file_with(const std::string& header, std::size_t bytes) {
    std::string file("\x93NUMPY\x01\x00", 8);
    file += static_cast<char>(header.size() & 255);
    file += static_cast<char>(header.size() >> 8);
    return file + header + std::string(bytes, '\1');
}

std::string message_of(const std::string& contents) {
    const scratch_file file(contents);
    try {
        static_cast<void>(examples::read_npy(file.path()));
    } catch (const examples::input_error& error) {
        return error.what();
    }
    return "accepted";
}

}  // namespace

TEST_CASE("npy: what is written is read back", "[npy][property]") {
    for (const auto type : {examples::npy_type::float16, examples::npy_type::float32, examples::npy_type::float64})
        for (const auto order : {magr::matrix_layout::row_major, magr::matrix_layout::col_major})
            for (const auto& [rows, cols] : {std::pair<magr::index_t, magr::index_t>{1, 1}, {3, 70}, {1000, 2}, {0, 5}}) {
                const std::size_t each = type == examples::npy_type::float16 ? 2 : type == examples::npy_type::float32 ? 4 : 8;
                examples::npy_matrix m{type, rows, cols, order, std::vector<std::byte>(static_cast<std::size_t>(rows * cols) * each)};
                for (std::size_t k = 0; k < m.elements.size(); ++k) m.elements[k] = static_cast<std::byte>(k % 63);
                const std::string contents = examples::to_npy(m);
                CHECK((contents.size() - m.elements.size()) % 64 == 0);
                const scratch_file file(contents);
                auto read = examples::read_npy(file.path());
                CHECK(read.type == type);
                CHECK(read.rows == rows);
                CHECK(read.cols == cols);
                CHECK(read.order == order);
                CHECK(read.elements == m.elements);
            }
}

TEST_CASE("npy: a view shows element (i, j) in either order", "[npy]") {
    std::string contents = file_with("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", 0);
    const float columns[] = {1, 2, 3, 4, 5, 6};
    contents.append(reinterpret_cast<const char*>(columns), sizeof columns);
    const scratch_file file(contents);
    auto m = examples::read_npy(file.path());
    examples::with_view(m, [](auto view) {
        CHECK(static_cast<float>(view(0, 0)) == 1);
        CHECK(static_cast<float>(view(1, 0)) == 2);
        CHECK(static_cast<float>(view(0, 2)) == 5);
    });
}

TEST_CASE("npy: headers in any order and spacing are read", "[npy]") {
    CHECK(message_of(file_with("{\"shape\":(2,2),\"descr\":\"<f8\",\"fortran_order\":False}", 32)) == "accepted");
    CHECK(message_of(file_with("{ 'fortran_order' : False , 'descr' : '<f2' , 'shape' : ( 4 , 1 , ) , }   \n", 8)) == "accepted");
}

TEST_CASE("npy: bad files are refused with a reason", "[npy][errors]") {
    const auto refused = [](const std::string& contents, const char* reason) {
        const std::string message = message_of(contents);
        INFO(message);
        CHECK(message.find(reason) != std::string::npos);
    };
    const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";
    CHECK(message_of(file_with(good, 24)) == "accepted");
    refused("", "only 0 bytes");
    refused("not a numpy file", "not a .npy file");
    refused(file_with(good, 20), "20 bytes of elements, expected 2 x 3 of 4 bytes");
    refused(file_with(good, 28), "28 bytes of elements");
    refused(file_with(good, 23), "23 bytes of elements");
    refused(file_with("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", 24), "elements of type '>f4'");
    refused(file_with("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }", 24), "elements of type '<i4'");
    refused(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", 24), "1 dimensions");
    refused(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 4), "0 dimensions");
    refused(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }", 24), "3 dimensions");
    refused(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3), }", 24), "too large");
    refused(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000), }", 24), "too large");
    refused(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2147483647, 2147483647), }", 24), "24 bytes of elements");
    refused(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3), }", 24), "malformed");
    refused(file_with("{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3), }", 24), "malformed");
    refused(file_with("{'descr': '<f4', 'shape': (2, 3), }", 24), "malformed");
    refused(file_with("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24), "malformed");
    refused(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}", 24), "malformed");
    refused(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} x", 24), "malformed");
    refused(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3", 24), "malformed");
    refused(file_with("{'descr", 24), "malformed");
    refused(file_with(good, 24).substr(0, 30), ".npy header of 60 bytes in a file of 30");
    refused(file_with("{'descr': '<i4\n\x1b[1m', 'fortran_order': False, 'shape': (2, 3), }", 24), "elements of type '<i4??[1m'");
    std::string future = file_with(good, 24);
    future[6] = 9;
    refused(future, "version 9");
}
