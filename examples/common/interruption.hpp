// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <system_error>
#include <thread>

#if !defined(_WIN32)
#include <signal.h>
#endif

#include "common/output_file.hpp"

namespace examples {

/// From here on, SIGINT, SIGTERM and SIGHUP remove the unfinished files before they end the program, and a reader that goes away is an
/// error of the write instead of the end. Called by `main`, once, before it starts threads: they inherit what is blocked.
inline void remove_unfinished_files_when_interrupted() {
#if !defined(_WIN32)
    ::signal(SIGPIPE, SIG_IGN);
    sigset_t awaited;
    ::sigemptyset(&awaited);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction action {};
        const bool ignored = ::sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;  // as nohup wants
        if (!ignored) ::sigaddset(&awaited, number);
    }
    ::pthread_sigmask(SIG_BLOCK, &awaited, nullptr);
    const auto wait = [awaited] {
        int number = 0;
        if (::sigwait(&awaited, &number) != 0) return;
        all_unfinished_files().mutex.lock();  // for good: nothing is made after this
        std::error_code ignored;
        for (const std::filesystem::path& name : all_unfinished_files().names) std::filesystem::remove(name, ignored);
        sigset_t received;
        ::sigemptyset(&received);
        ::sigaddset(&received, number);
        ::signal(number, SIG_DFL);
        ::pthread_sigmask(SIG_UNBLOCK, &received, nullptr);
        ::raise(number);
    };
    try {
        std::thread(wait).detach();
    } catch (const std::system_error&) {  // without the thread, signals end the program as they always do
        ::pthread_sigmask(SIG_UNBLOCK, &awaited, nullptr);
    }
#endif
}

}  // namespace examples
