// SPDX-License-Identifier: MIT
// The text of a case, "bits 2, group_size 16": it is both its name in the record and its settings.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace record {

/// Pairs of key and value. Every key must be read at least once, so that a misspelt one cannot pass for a default.
class settings {
public:
    explicit settings(std::string_view text) : text_(text) {
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t end = std::min(text.find(", ", at), text.size());
            const std::string_view pair = text.substr(at, end - at);
            const std::size_t space = pair.find(' ');
            if (space == std::string_view::npos) throw std::logic_error("settings: no value in '" + std::string(pair) + "'");
            pairs_.emplace_back(pair.substr(0, space), pair.substr(space + 1));
            at = end + 2;
        }
    }

    [[nodiscard]] const std::string& text() const { return text_; }

    [[nodiscard]] std::optional<std::string> find(const std::string& key) {
        read_.insert(key);
        for (const auto& [name, value] : pairs_)
            if (name == key) return value;
        return std::nullopt;
    }

    /// target <- the value of the key as a number, if it is set.
    template <class Number>
    void number(const std::string& key, Number& target) {
        if (const auto value = find(key)) target = static_cast<Number>(std::stod(*value));
    }
    template <class Number>
    void number(const std::string& key, std::optional<Number>& target) {
        if (const auto value = find(key)) target = static_cast<Number>(std::stod(*value));
    }

    /// target <- the numbers of "1e-3 1e-2", if the key is set.
    void numbers(const std::string& key, std::vector<double>& target) {
        const auto value = find(key);
        if (!value) return;
        target.clear();
        for (std::size_t at = 0; at < value->size(); at = std::min(value->find(' ', at), value->size() - 1) + 1)
            target.push_back(std::stod(value->substr(at)));
    }

    /// target <- the value that the word of the key stands for, if it is set.
    template <class Value, class Target>
    void word(const std::string& key, const std::vector<std::pair<std::string_view, Value>>& words, Target& target) {
        const auto value = find(key);
        if (!value) return;
        for (const auto& [name, meaning] : words)
            if (name == *value) {
                target = meaning;
                return;
            }
        throw std::logic_error("settings: '" + *value + "' is no value of " + key);
    }

    [[nodiscard]] bool yes(const std::string& key, bool standard) {
        word<bool>(key, {{"yes", true}, {"no", false}}, standard);
        return standard;
    }

    void require_all_read() const {
        for (const auto& [name, value] : pairs_)
            if (!read_.contains(name)) throw std::logic_error("settings: nothing reads " + name + " in '" + text_ + "'");
    }

private:
    std::string text_;
    std::vector<std::pair<std::string, std::string>> pairs_;
    std::set<std::string> read_;
};

}  // namespace record
