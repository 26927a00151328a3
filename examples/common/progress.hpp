// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iomanip>
#include <iostream>
#include <mutex>
#include <string>
#include <utility>

#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

#include "common/text_stream.hpp"

namespace examples {

[[nodiscard]] inline bool stderr_is_terminal() {
#if defined(_WIN32)
    return _isatty(_fileno(stderr)) != 0;
#else
    return isatty(STDERR_FILENO) != 0;
#endif
}

/// 7 s, 1:05, 2:03:04; - if it cannot be told.
[[nodiscard]] inline std::string duration_text(double seconds) {
    constexpr double longest = 1e9;
    if (!(seconds >= 0 && seconds < longest)) return "-";
    const auto total = static_cast<std::int64_t>(seconds + 0.5);
    text_stream text;
    text << std::setfill('0');
    if (total < 60)
        text << total << " s";
    else if (total < 3600)
        text << total / 60 << ':' << std::setw(2) << total % 60;
    else
        text << total / 3600 << ':' << std::setw(2) << total / 60 % 60 << ':' << std::setw(2) << total % 60;
    return text.str();
}

/// Progress of work measured in tokens, on stderr: a bar that is redrawn on a terminal, else a line now and then. Any thread may
/// advance it.
class progress {
public:
    /// @param stream_is_terminal  whether lines can be redrawn
    explicit progress(std::ostream& stream = std::cerr, bool stream_is_terminal = stderr_is_terminal())
        : stream_(stream), terminal_(stream_is_terminal) {}
    progress(const progress&) = delete;
    progress& operator=(const progress&) = delete;
    ~progress() { clear(); }

    /// Begins to count anew, up to all the tokens that are going to be processed.
    void expect(double tokens) {
        const std::lock_guard lock(mutex_);
        total_ = tokens;
        done_ = 0;
        begin_ = clock::now();
    }

    /// What is being worked on from now on, for example "magr+optq 2 bits, layer 3/6".
    void stage(std::string name) {
        const std::lock_guard lock(mutex_);
        stage_ = std::move(name);
        show();
    }

    /// More tokens are done; a fraction when only some of the model's layers were passed.
    void advance(double tokens) {
        const std::lock_guard lock(mutex_);
        done_ += tokens;
        show();
    }

    /// Removes the bar, so that the program can print.
    void clear() {
        const std::lock_guard lock(mutex_);
        erase();
    }

    /// Prints a line that stays.
    void note(const std::string& line) {
        const std::lock_guard lock(mutex_);
        erase();
        stream_ << line << std::endl;
    }

private:
    using clock = std::chrono::steady_clock;

    void erase() {
        if (drawn_) stream_ << "\r\033[K" << std::flush;
        drawn_ = false;
    }

    void show() {
        const auto now = clock::now();
        if (now < next_) return;
        next_ = now + (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10));
        text_stream line;
        const double fraction = total_ > 0 ? std::min(done_ / total_, 1.0) : 0.0;
        if (terminal_) {
            constexpr int width = 24;
            const int filled = static_cast<int>(fraction * width);
            line << '[' << std::string(static_cast<std::size_t>(filled), '#') << std::string(static_cast<std::size_t>(width - filled), '.')
                 << "] ";
        }
        line << std::setw(3) << static_cast<int>(100 * fraction) << "%  " << thousands(done_) << " of " << thousands(total_) << " tokens";
        const double elapsed = std::chrono::duration<double>(now - begin_).count();
        if (done_ > 0 && elapsed > 1) line << "  ETA " << duration_text(elapsed * (1 - fraction) / fraction);
        line << "  " << stage_;
        stream_ << (terminal_ ? "\r\033[K" : "") << line.str() << (terminal_ ? "" : "\n") << std::flush;
        drawn_ = terminal_;
    }

    /// 12345.6 as "12k"
    static std::string thousands(double tokens) { return std::to_string(static_cast<std::int64_t>(tokens / 1000)) + "k"; }

    std::ostream& stream_;
    bool terminal_;
    std::mutex mutex_;
    std::string stage_;
    double total_ = 0;
    double done_ = 0;
    bool drawn_ = false;
    clock::time_point begin_ = clock::now();
    clock::time_point next_ = begin_ + std::chrono::milliseconds(500);  // when to show something again
};

}  // namespace examples
