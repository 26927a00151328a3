// SPDX-License-Identifier: MIT
// Records the results of the library, bit by bit, so that a restructured version can be compared with it:
//
//   magr_record > old.txt                                        with the old code
//   magr_record --compare old.txt [NEW] [--ignore PATTERN]...    with the new one: runs all cases, or reads the file NEW
//
// Each result that differs is listed as a line "name: key old -> new", and so are lines that only one record has. PATTERN is a regular
// expression (ECMAScript) that is searched in "name: key"; matching differences were intended. The exit status is 1 if anything is listed.
//
// Records can be compared if compiler, flags and instruction set are the same. Across these only results without a rounded sum are the
// same: orders of columns, grids of the min_max range, codes rounded to nearest on them, formats_that_take, and packed bytes of such codes
// (`optq no`); except `weights` of grids with offsets, where a multiply-add may round once or twice.
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "cases.hpp"
#include "recorder.hpp"

namespace {

using lines = std::map<std::string, std::string>;

lines read(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot open " + path);
    lines found;
    for (std::string line; std::getline(file, line);) {
        const std::size_t tab = line.find('\t');
        if (tab == std::string::npos) throw std::runtime_error(path + ": a line without a tab: " + line);
        found.emplace(line.substr(0, tab), line.substr(tab + 1));
    }
    if (found.empty()) throw std::runtime_error(path + " is empty");
    return found;
}

lines run() {
    record::recorder out;
    record::run_all(out);
    return out.lines();
}

/// Keys and values of one line.
lines results_of(const std::string& line) {
    lines found;
    std::istringstream words(line);
    for (std::string word; words >> word;) found.emplace(word.substr(0, word.find('=')), word.substr(word.find('=') + 1));
    return found;
}

/// The number of entries that one of two maps lacks, or that differ. Calls differs(key, old, new) for each, with "(nothing)" for a missing
/// one.
template <class Differs>
void for_each_difference(const lines& before, const lines& after, Differs&& differs) {
    for (const auto& [key, value] : before) {
        const auto at = after.find(key);
        if (at == after.end() || at->second != value) differs(key, value, at == after.end() ? "(nothing)" : at->second);
    }
    for (const auto& [key, value] : after)
        if (!before.contains(key)) differs(key, "(nothing)", value);
}

int compare(const lines& before, const lines& after, const std::vector<std::regex>& ignored) {
    std::size_t listed = 0, left_out = 0;
    const auto list = [&](const std::string& what, const std::string& was, const std::string& is) {
        for (const std::regex& pattern : ignored)
            if (std::regex_search(what, pattern)) {
                ++left_out;
                return;
            }
        ++listed;
        std::cout << what << " " << was << " -> " << is << "\n";
    };
    for_each_difference(before, after, [&](const std::string& name, const std::string& was, const std::string& is) {
        if (was == "(nothing)" || is == "(nothing)") return list(name, was, is);
        for_each_difference(results_of(was), results_of(is),
                            [&](const std::string& key, const std::string& old_value, const std::string& new_value) {
                                list(name + ": " + key, old_value, new_value);
                            });
    });
    std::cerr << before.size() << " and " << after.size() << " cases, " << listed << " differences, " << left_out << " ignored\n";
    return listed == 0 ? 0 : 1;
}

int run(const std::vector<std::string>& arguments) {
    std::vector<std::string> files;
    std::vector<std::regex> ignored;
    bool comparing = false;
    for (std::size_t k = 0; k < arguments.size(); ++k) {
        if (arguments[k] == "--ignore" && k + 1 < arguments.size())
            ignored.emplace_back(arguments[++k]);
        else if (arguments[k] == "--compare")
            comparing = true;
        else
            files.push_back(arguments[k]);
    }
    if (!comparing && arguments.empty()) {
        for (const auto& [name, results] : run()) std::cout << name << '\t' << results << '\n';
        return std::cout.flush() ? 0 : 2;
    }
    if (!comparing || files.empty() || files.size() > 2)
        throw std::runtime_error("usage: magr_record [--compare OLD [NEW] [--ignore PATTERN]...]");
    const lines before = read(files[0]);
    return compare(before, files.size() == 2 ? read(files[1]) : run(), ignored);
}

}  // namespace

int main(int count, char** arguments) try {
    return run(std::vector<std::string>(arguments + 1, arguments + count));
} catch (const std::exception& error) {
    std::fprintf(stderr, "magr_record: %s\n", error.what());
    return 2;
}
