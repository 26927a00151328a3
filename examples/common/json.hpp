// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.hpp"
#include "common/file_kind.hpp"

namespace examples {

using json = nlohmann::json;

/// Parses one JSON object strictly: nothing after it, no key twice in one object, no deep nesting. `what` begins the error messages.
[[nodiscard]] inline json parse_json_object(std::string_view text, const std::string& what) {
    constexpr int deepest = 64;
    std::vector<std::set<std::string>> keys;  // of the objects that are open
    const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
        if (depth > deepest) refuse(what, ": JSON is nested deeper than ", deepest, " levels");
        if (event == json::parse_event_t::object_start) keys.emplace_back();
        if (event == json::parse_event_t::object_end) keys.pop_back();
        if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
            refuse(what, ": the key ", parsed.dump(-1, ' ', true), " appears twice");
        return true;
    };
    json value;
    try {
        value = json::parse(text, check);
    } catch (const json::exception& error) {
        if (const auto kind = mistaken_kind(text); !kind.empty()) refuse(what, ": is ", kind);
        refuse(what, ": not valid JSON: ", error.what());
    }
    if (!value.is_object()) refuse(what, ": not a JSON object");
    return value;
}

}  // namespace examples
