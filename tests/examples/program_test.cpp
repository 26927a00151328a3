// The program as a whole: MAGR_QUANTIZE_LLAMA is its path.
#include <cstdlib>
#include <sstream>
#include <string>

#include "common/json.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

#if !defined(_WIN32)
#include <sys/wait.h>
#endif

namespace {

/// Runs the program; what it prints goes to the files `out` and `err` of the folder.
int run(const scratch_folder& folder, const std::string& arguments) {
    const std::string command = "\"" MAGR_QUANTIZE_LLAMA "\" " + arguments + " >\"" + (folder.path() / "out").string() + "\" 2>\"" +
                                (folder.path() / "err").string() + "\"";
    const int status = std::system(command.c_str());
#if defined(_WIN32)
    return status;
#else
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
#endif
}

std::string quoted(const std::filesystem::path& path) {
    std::ostringstream text;
    text << '"' << path.string() << '"';
    return text.str();
}

void write_model(const scratch_folder& folder) {
    const examples::llama_model model = tiny::model();
    folder.write("config.json", tiny::config_text(model.config));
    folder.write("model.safetensors", tiny::safetensors(tiny::stored(model)));
}

}  // namespace

TEST_CASE("quantize_llama: writes table, texts, JSON and page", "[examples][program]") {
    const scratch_folder folder;
    write_model(folder);
    const auto json_file = folder.path() / "results.json", page = folder.path() / "report.html";
    REQUIRE(run(folder, "--model " + quoted(folder.path()) +
                            " --bits 2,4 --methods optq,magr+optq --calib-tokens 2000 --eval-tokens 1000 --threads 2" +
                            " --sample-tokens 20 --json " + quoted(json_file) + " --report " + quoted(page)) == 0);
    const examples::json results = examples::json::parse(folder.read("results.json"));
    REQUIRE(results.at("results").size() == 4);
    CHECK(results.at("results")[1].at("method") == "magr+optq");
    CHECK(results.at("results")[1].at("bits") == 2);
    CHECK(results.at("baseline").at("perplexity") > 1);
    for (const auto& result : results.at("results")) {
        CHECK(result.at("perplexity") > 1);
        CHECK(result.at("kl") > 0);
        CHECK(result.at("output_error") > 0);
        CHECK(result.at("seconds") > 0);
    }
    CHECK_THAT(folder.read("report.html"), mentions("</html>"));
    CHECK_THAT(folder.read("out"), mentions("full precision"));
    CHECK_THAT(folder.read("out"), mentions("--- magr+optq, 2 bits"));
    CHECK_FALSE(std::filesystem::exists(folder.path() / "results.json.part"));
}

TEST_CASE("quantize_llama: what it cannot use gets one line and exit code 2", "[examples][program]") {
    const scratch_folder folder;
    const auto refused = [&](const std::string& arguments) {
        CHECK(run(folder, arguments) == 2);
        CHECK(folder.read("out").empty());
        const std::string message = folder.read("err");
        CHECK(message.find('\n') == message.size() - 1);
        return message;
    };
    CHECK_THAT(refused("--model " + quoted(folder.path() / "none")), mentions("none: no such folder"));
    CHECK_THAT(refused("--model " + quoted(folder.path())), mentions("config.json: no such file"));
    write_model(folder);
    const std::string model = "--model " + quoted(folder.path());
    CHECK_THAT(refused(model + " --calib " + quoted(folder.path() / "none.u16")), mentions("none.u16: no such file"));
    CHECK_THAT(refused(model + " --json " + quoted(folder.path() / "none" / "x.json")), mentions("cannot be written"));
    CHECK_THAT(refused(model + " --report " + quoted(folder.path())), mentions("is a directory"));
    folder.write("model.safetensors", "damaged");
    CHECK_THAT(refused(model), mentions("too short for a safetensors file"));
}

TEST_CASE("quantize_llama: a wrong command line is exit code 2, a question for help is 0", "[examples][program]") {
    const scratch_folder folder;
    for (const char* arguments : {"--bits 9", "--bits 1", "--methods awq", "--alpha -1", "--beta 0", "--group-size 0", "--nonsense",
                                  "--solver x", "--calib-tokens 0", "--threads 0", "extra"}) {
        CHECK(run(folder, arguments) == 2);
        CHECK_FALSE(folder.read("err").empty());
    }
    CHECK(run(folder, "--help") == 0);
    for (const char* option :
         {"--model", "--calib", "--eval", "--calib-tokens", "--eval-tokens", "--bits", "--group-size", "--alpha", "--beta", "--damping",
          "--order", "--solver", "--methods", "--seed", "--threads", "--sample-tokens", "--json", "--report"})
        CHECK_THAT(folder.read("out"), mentions(option));
}
