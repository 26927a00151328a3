// SPDX-License-Identifier: MIT
// Lines of the record: the name of a case, a tab, and its results as "key=value" separated by spaces.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace record {

/// The results of one case. Real numbers are written as hexadecimal floats, and arrays as shape and hash, so that equal texts mean equal
/// bits.
class results {
public:
    void add(const std::string& key, const std::string& word) { text_ += (text_.empty() ? "" : " ") + key + "=" + word; }
    void add(const std::string& key, const char* word) { add(key, std::string(word)); }
    void add(const std::string& key, bool value) { add(key, value ? "yes" : "no"); }
    void add(const std::string& key, double value) {
        char digits[40];
        std::snprintf(digits, sizeof(digits), "%a", value);
        add(key, std::isnan(value) ? "nan" : digits);  // the sign of a NaN means nothing
    }
    template <class Integer>
        requires std::is_integral_v<Integer>
    void add(const std::string& key, Integer value) {
        add(key, std::to_string(value));
    }
    template <class T>
    void add(const std::string& key, const std::optional<T>& value) {
        value ? add(key, *value) : add(key, "none");
    }

    /// A matrix, or anything with rows(), cols() and (i, j). The hash does not depend on its layout.
    template <class Matrix>
        requires requires(const Matrix& m) { m(0, 0), m.rows(), m.cols(); }
    void add(const std::string& key, const Matrix& m) {
        hash sum;
        for (std::ptrdiff_t i = 0; i < m.rows(); ++i)
            for (std::ptrdiff_t j = 0; j < m.cols(); ++j) sum.add(m(i, j));
        add(key, std::to_string(m.rows()) + "x" + std::to_string(m.cols()) + ":" + sum.text());
    }
    template <class T>
    void add(const std::string& key, const std::vector<T>& values) {
        hash sum;
        for (const T& value : values) sum.add(value);
        add(key, std::to_string(values.size()) + ":" + sum.text());
    }

    [[nodiscard]] const std::string& text() const { return text_; }

private:
    /// 64-bit FNV-1a of the bytes of numbers, lowest byte first.
    class hash {
    public:
        template <class T>
        void add(const T& value) {
            using bits_type = std::conditional_t<
                sizeof(T) == 1, std::uint8_t,
                std::conditional_t<sizeof(T) == 2, std::uint16_t, std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>>;
            std::uint64_t bits = std::bit_cast<bits_type>(value);
            for (std::size_t k = 0; k < sizeof(T); ++k, bits >>= 8) state_ = (state_ ^ (bits & 255)) * 1099511628211u;
        }
        [[nodiscard]] std::string text() const {
            char digits[20];
            std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(state_));
            return digits;
        }

    private:
        std::uint64_t state_ = 14695981039346656037u;
    };

    std::string text_;
};

/// All lines, by name.
class recorder {
public:
    void add(const std::string& name, const results& found) {
        if (!lines_.emplace(name, found.text()).second) throw std::logic_error("recorder: there are two cases '" + name + "'");
    }
    [[nodiscard]] const std::map<std::string, std::string>& lines() const { return lines_; }

private:
    std::map<std::string, std::string> lines_;
};

}  // namespace record
