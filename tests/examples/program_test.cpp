// SPDX-License-Identifier: MIT
// Tests the program as a whole; MAGR_QUANTIZE_LLAMA is its path.
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <thread>

#include "common/json.hpp"
#include "folder_contents.hpp"
#include "quantize_llama/methods.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

#if !defined(_WIN32)
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

/// Runs the program. Its output goes to the files `out` and `err` of the folder.
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

void write_model(const scratch_folder& folder) { tiny::write_model(folder, tiny::model()); }

/// A file of token ids.
std::string ids(const std::vector<examples::sequence>& texts) {
    std::string bytes;
    for (const examples::sequence& text : texts) {
        bytes += "\xff\xff";
        for (const examples::token id : text) bytes += tiny::bytes_of(static_cast<std::uint16_t>(id));
    }
    return bytes;
}

/// Writes a model of six blocks and texts, and returns the arguments that quantize it on them.
std::string write_job(const scratch_folder& folder) {
    examples::llama_config config = tiny::config();
    config.num_hidden_layers = 6;
    tiny::write_model(folder, tiny::model(config));
    const auto calibration = folder.write("calib.u16", ids(tiny::texts(config, std::vector<std::size_t>(30, 100), 21)));
    const auto evaluation = folder.write("eval.u16", ids(tiny::texts(config, {120, 3, 90}, 22)));
    return "--model " + quoted(folder.path()) + " --calib " + quoted(calibration) + " --eval " + quoted(evaluation) +
           " --methods magr+optq --bits 2 --group-size 8 --threads 2";
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
        CHECK(result.at("processor_seconds") > 0);
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
    CHECK_THAT(refused(model + " --out " + quoted(folder.path()) + " --methods rtn --bits 2"),
               mentions("is the folder of the model itself"));
    CHECK_THAT(refused(model + " --out /dev/null --methods rtn --bits 2"), mentions("/dev/null: cannot be made"));
    std::filesystem::create_symlink("loop", folder.path() / "loop");
    for (const char* option : {" --json ", " --report ", " --methods rtn --bits 2 --out "}) {
        CHECK_THAT(refused(model + option + quoted(folder.path() / "loop")), mentions("loop"));
        CHECK_THAT(refused(model + option + quoted(folder.path() / std::string(300, 'n'))), mentions("nnn"));
    }
    folder.write("model.safetensors", "damaged");
    CHECK_THAT(refused(model), mentions("too short for a safetensors file"));
}

TEST_CASE("quantize_llama: an option that no method takes is refused, and one that some do not take is reported", "[examples][program]") {
    const scratch_folder folder;
    write_job(folder);
    const std::string text = quoted(folder.path() / "eval.u16");
    const std::string job = "--model " + quoted(folder.path()) + " --calib " + text + " --eval " + text + " --bits 3 --sample-tokens 0";
    for (const char* refused : {"quip --group-size 8",
                                "quip --zero-point real",
                                "magr+quip --range mse",
                                "quip --storage f16",
                                "quip --beta 0.9",
                                "dint --zero-point none",
                                "dint --range mse",
                                "dint --beta 0.9",
                                "paper --range mse",
                                "paper --damping 0.1",
                                "auto --beta 0.9",
                                "auto --alpha 0.1",
                                "optq --alpha 0.1",
                                "optq --solver admm",
                                "rtn --order act_order",
                                "gpfq --damping 0.1",
                                "magr+qronos --target original",
                                "boa --refinement-rounds 2",
                                "optq --drift 0.5",
                                "qronos --effort 2",
                                "quip,dint --zero-point real"}) {
        CAPTURE(refused);
        CHECK(run(folder, job + " --methods " + refused) == 2);
        CHECK_THAT(folder.read("err"), mentions(std::string(refused).find(',') == std::string::npos ? "does not take it" : "no method"));
    }
    for (const char* refused :
         {"owq --zero-point real", "optq,owq --zero-point offset", "owq --order reversed", "all --order group_aware"}) {
        CAPTURE(refused);
        CHECK(run(folder, job + " --methods " + refused) == 2);
        CHECK_THAT(folder.read("err"), mentions("owq takes only n"));
    }
    const std::string gguf_job = "--model " + quoted(folder.path()) + " --calib " + text + " --eval " + text + " --sample-tokens 0";
    for (const auto& [arguments, message] :
         {std::pair("quip --gguf-type q4_0", "quip does not round onto the grids of q4_0"),
          std::pair("paper --gguf-type q2_k", "paper does not round onto the grids of q2_k"),
          std::pair("rtn --gguf-type q4_0 --bits 4", "the types of --gguf-type decide about it"),
          std::pair("rtn --gguf-type q4_0 --storage f16", "the types of --gguf-type decide about it"),
          std::pair("rtn --out o --format gguf", "gguf needs --gguf-type"),
          std::pair("rtn --out o --format gguf --gguf-type q4_0", "gguf needs --gguf-base"),
          std::pair("rtn --out o --gguf-base b", "is for --format gguf"),
          std::pair("rtn --out o --format gptq --gguf-type q4_0", "gptq files have grids of their own")}) {
        CAPTURE(arguments);
        CHECK(run(folder, gguf_job + " --methods " + arguments) == 2);
        CHECK_THAT(folder.read("err"), mentions(message));
    }
    const auto json_file = folder.path() / "r.json";
    REQUIRE(run(folder, job + " --methods rtn,magr+quip,dint --group-size 8 --zero-point real --json " + quoted(json_file)) == 0);
    CHECK_THAT(folder.read("out"), mentions("\nmagr+quip does not take --group-size, --zero-point\ndint does not take --zero-point\n"));
    const auto results = examples::json::parse(folder.read("r.json")).at("results");
    CHECK(results[0].at("group_size") == 8);
    CHECK(results[0].at("options_not_taken").empty());
    CHECK(results[1].at("group_size").is_null());
    CHECK(results[2].at("options_not_taken").size() == 1);
}

TEST_CASE("quantize_llama: the folder that it writes is the model that it reports on", "[examples][program]") {
    const scratch_folder folder;
    const std::string job = write_job(folder);
    for (const char* type : {"f32", "bf16"}) {
        const auto out = folder.path() / type;
        REQUIRE(run(folder, job + " --out " + quoted(out) + " --out-dtype " + type + " --json " + quoted(folder.path() / "a.json")) == 0);
        REQUIRE(run(folder, "--model " + quoted(out) + " --eval " + quoted(folder.path() / "eval.u16") + " --calib " +
                                quoted(folder.path() / "eval.u16") + " --methods rtn --bits 8 --sample-tokens 0 --json " +
                                quoted(folder.path() / "b.json")) == 0);
        CHECK_THAT(folder.read("out"), !mentions("--- full precision"));
        const auto reported = examples::json::parse(folder.read("a.json")), loaded = examples::json::parse(folder.read("b.json"));
        CHECK(reported.at("results")[0].at("perplexity") == loaded.at("baseline").at("perplexity"));
        CHECK(reported.at("results")[0].at("perplexity") != reported.at("baseline").at("perplexity"));
        CHECK(reported.at("results")[0].at("peak_memory_bytes") > 1'000'000);
    }
}

TEST_CASE("quantize_llama: options that are not given suit the format, and what it cannot hold is refused before the work",
          "[examples][program]") {
    const scratch_folder folder;
    examples::llama_config config = tiny::config();
    config.hidden_size = 64;
    config.intermediate_size = 96;
    config.head_dim = 16;
    tiny::write_model(folder, tiny::model(config));
    const auto out = folder.path() / "q";
    const std::string job = "--model " + quoted(folder.path()) +
                            " --calib-tokens 500 --eval-tokens 200 --sample-tokens 0 --methods optq --out " + quoted(out) + " --format ";
    REQUIRE(run(folder, job + "gptq") == 0);
    const auto written = examples::json::parse(folder.read("q/config.json")).at("quantization_config");
    CHECK(written.at("bits") == 4);
    CHECK(written.at("group_size") == 128);
    CHECK(written.at("sym") == true);
    const auto options = examples::json::parse(folder.read("q/quantization.json")).at("options");
    CHECK(options.at("format") == "gptq");
    CHECK(options.at("zero_point") == "none");
    CHECK(options.at("storage") == "f16");
    CHECK(options.at("out_dtype") == "f16");
    std::filesystem::remove_all(out);
    REQUIRE(run(folder, job + "mlx --bits 3 --group-size 32 --storage bf16") == 0);
    const auto others = examples::json::parse(folder.read("q/quantization.json")).at("options");
    CHECK(others.at("bits") == 3);
    CHECK(others.at("zero_point") == "offset");
    CHECK(others.at("out_dtype") == "bf16");
    std::filesystem::remove_all(out);

    const auto refused = [&](const std::string& arguments) {
        CHECK(run(folder, arguments) == 2);
        CHECK_FALSE(std::filesystem::exists(out));
        return folder.read("err");
    };
    const std::string message = refused(job + "awq --bits 3");
    CHECK_THAT(message, mentions("--format awq cannot hold this model: awq: bits must be 4, it is 3; "));
    CHECK_THAT(message, mentions("mlp.down_proj has 96 inputs, fewer than a group of 128"));
    CHECK(run(folder, "--model " + quoted(folder.path()) + " --format gptq") == 2);
    CHECK_THAT(folder.read("err"), mentions("--format requires --out"));
}

TEST_CASE("quantize_llama: a damaged file of its folder is named on stderr", "[examples][program]") {
    const scratch_folder folder;
    const auto out = folder.path() / "q";
    const std::string job = write_job(folder) + " --sample-tokens 0 --out " + quoted(out);
    REQUIRE(run(folder, job) == 0);
    CHECK_THAT(folder.read("err"), !mentions("made again"));
    const auto expected = folder_contents(out);
    folder.write("q/codes/block-00001.safetensors", "abc");
    std::filesystem::remove(out / "config.json");
    REQUIRE(run(folder, job) == 0);
    CHECK_THAT(folder.read("err"), mentions((out / "config.json").string() + ": is missing; it is made again\n"));
    CHECK_THAT(folder.read("err"), mentions((out / "codes" / "block-00001.safetensors").string() + ": has 3 bytes in place of "));
    CHECK(folder_contents(out) == expected);
}

TEST_CASE("quantize_llama: names may hold spaces, ends of lines and bytes that are no text", "[examples][program]") {
    const scratch_folder folder;
    const auto odd = folder.path() / "a b\n\xff\x1b[31m";
    std::filesystem::create_directory(odd);
    const std::string job = write_job(folder) + " --sample-tokens 0";
    for (const char* name : {"config.json", "model.safetensors"}) std::filesystem::rename(folder.path() / name, odd / name);
    std::string moved = job;
    moved.replace(moved.find(quoted(folder.path())), quoted(folder.path()).size(), quoted(odd));
    REQUIRE(run(folder,
                moved + " --json " + quoted(odd / "r.json") + " --report " + quoted(odd / "r.html") + " --out " + quoted(odd / "q")) == 0);
    CHECK_THAT(folder.read("out"), !mentions("\x1b"));
    CHECK(folder.read("out").starts_with("model " + folder.path().string() + "/a b?"));
    CHECK(examples::json::parse(std::ifstream(odd / "r.json")).at("results").size() == 1);
    CHECK(std::filesystem::exists(odd / "q" / "model.safetensors.index.json"));
}

TEST_CASE("quantize_llama: what is not used is not read", "[examples][program]") {
    const scratch_folder folder;
    const std::string job = write_job(folder);
    folder.write("tokenizer.json", "{\"version\": \"1.0\"}");
    CHECK(run(folder, job + " --sample-tokens 0") == 0);
    CHECK(run(folder, job + " --sample-tokens 5") == 2);
    CHECK_THAT(folder.read("err"), mentions("not a tokenizer that can be read"));
}

TEST_CASE("quantize_llama: results may not overwrite each other or what is read", "[examples][program]") {
    const scratch_folder folder;
    const std::string job = write_job(folder) + " --sample-tokens 0";
    const auto before = folder_contents(folder.path());
    for (const char* input : {"config.json", "model.safetensors", "calib.u16", "eval.u16"})
        for (const char* option : {" --json ", " --report "}) {
            CHECK(run(folder, job + option + quoted(folder.path() / input)) == 2);
            CHECK_THAT(folder.read("err"), mentions("is read by this run"));
        }
    CHECK(run(folder, job + " --json " + quoted(folder.path() / "r") + " --report " + quoted(folder.path() / "." / "r")) == 2);
    CHECK_THAT(folder.read("err"), mentions("is the name of both --json and --report"));
    auto after = folder_contents(folder.path());
    after.erase("out");
    after.erase("err");
    CHECK(after == before);

    const auto out = folder.path() / "q";  // does not exist yet
    const std::string into = job + " --out " + quoted(out) + " --json ";
    for (int time = 0; time < 2; ++time) CHECK(run(folder, into + quoted(out / "r.json")) == 0);
    CHECK(std::filesystem::exists(out / "r.json"));
    CHECK(run(folder, into + quoted(out / "config.json")) == 2);
}

TEST_CASE("quantize_llama: an error says in which block, layer and text it is", "[examples][program]") {
    const scratch_folder folder;
    const auto overflow = [&](examples::linear kind, float factor) {
        const std::string job = write_job(folder) + " --sample-tokens 0";
        examples::llama_config config = tiny::config();
        config.num_hidden_layers = 6;
        examples::llama_model model = tiny::model(config);
        model.blocks[1][kind] *= factor;
        tiny::write_model(folder, model);
        CHECK(run(folder, job) == 1);
        return folder.read("err");
    };
    CHECK_THAT(overflow(examples::linear::up_proj, 3e38f),
               mentions("evaluation text: the input of layers.1.mlp.down_proj leaves the range"));
    CHECK_THAT(overflow(examples::linear::down_proj, 1e22f), mentions("the input of layers.2.self_attn.q_proj leaves the range"));
    CHECK_THAT(folder.read("err"), mentions("in sequence 1 of the text"));
}

TEST_CASE("quantize_llama: a layer whose inputs are all zero is rounded, and the report says so", "[examples][program]") {
    struct cause {
        examples::linear zero;  // the layer that is set to zero
        std::string dead;       // the layer that reads its output
        int inputs;
    };
    for (const auto& [zero, dead, inputs] : {cause{examples::linear::v_proj, "layers.1.self_attn.o_proj", 40},
                                             cause{examples::linear::gate_proj, "layers.1.mlp.down_proj", 28}}) {
        const scratch_folder folder;
        const std::string job = write_job(folder) + " --sample-tokens 0";
        examples::llama_config config = tiny::config();
        config.num_hidden_layers = 2;
        examples::llama_model model = tiny::model(config);
        model.blocks[1][zero].setZero();
        tiny::write_model(folder, model);
        const std::string remark = std::string("all ") + std::to_string(inputs) + " inputs are zero on the calibration text";
        const auto listed = [](const auto& methods) {
            std::string names;
            for (const examples::method m : methods) names.append(names.empty() ? "" : ",").append(name_of(m));
            return names;
        };
        const std::string without_methods = job.substr(0, job.find(" --methods")) + " --bits 3 --threads 2 --sample-tokens 0 --json " +
                                            quoted(folder.path() / "r.json") + " --report " + quoted(folder.path() / "r.html");
        for (const char* groups : {"", " --group-size 8"})
            for (const char* alpha : {"", " --alpha 0.01"}) {
                const bool every = *groups && !*alpha;  // once is enough for those that do not run by default
                const std::string methods = every ? listed(examples::all_methods) : listed(examples::default_methods());
                REQUIRE(run(folder, without_methods + groups + alpha + " --methods " + methods) == 0);
                const auto results = examples::json::parse(folder.read("r.json")).at("results");
                REQUIRE(results.size() == (every ? examples::all_methods.size() : examples::default_methods().size()));
                for (const auto& result : results) {
                    INFO(result.dump());
                    CHECK(result.at("remarks").size() == 1);
                    CHECK_THAT(result.at("remarks").value(dead, ""), mentions(remark));
                    if (result.at("method") == "paper") {  // the other methods choose whether to use MagR
                        CHECK_THAT(result.at("remarks").value(dead, ""), mentions("their weights are set to zero"));
                        CHECK(result.at("layers_with_magr") == 13);
                    }
                    if (result.at("method") == "magr+optq" && *alpha) CHECK(result.at("layers_with_magr") == 13);
                    CHECK(result.at("perplexity") > 1);
                    // QuIP's grid has no zero, so weights that are all zero change, of which no finite share is lost
                    const bool rotated = result.at("method") == "quip" || result.at("method") == "magr+quip";
                    CHECK((rotated ? result.at("output_error").is_null() : result.at("output_error") > 0));
                    CHECK_THAT(folder.read("out"), mentions(result.at("method").get<std::string>() + ", 3 bits: " + dead + ": " + remark));
                }
                CHECK_THAT(folder.read("r.html"), mentions(dead + ": " + remark));
            }
        // A run that takes the layer over from an interrupted one reports the same.
        const std::string into = job + " --out " + quoted(folder.path() / "q") + " --json " + quoted(folder.path() / "r.json");
        for (int time = 0; time < 2; ++time) {
            REQUIRE(run(folder, into) == 0);
            const auto result = examples::json::parse(folder.read("r.json")).at("results")[0];
            CHECK_THAT(result.at("remarks").value(dead, ""), mentions(remark));
        }
    }
}

TEST_CASE("quantize_llama: inputs that are zero in part of a layer are counted", "[examples][program]") {
    const scratch_folder folder;
    const std::string job = write_job(folder) + " --sample-tokens 0 --json " + quoted(folder.path() / "r.json");
    examples::llama_config config = tiny::config();
    config.num_hidden_layers = 6;
    examples::llama_model model = tiny::model(config);
    model.blocks[2][examples::linear::up_proj].topRows(3).setZero();
    tiny::write_model(folder, model);
    REQUIRE(run(folder, job) == 0);
    CHECK(examples::json::parse(folder.read("r.json")).at("results")[0].at("remarks") ==
          examples::json{
              {"layers.2.mlp.down_proj", "3 of 28 inputs are zero on the calibration text, their weights are rounded to the nearest"}});
}

#if !defined(_WIN32)

// The address sanitizer needs more address space than the next test allows.
#if defined(__SANITIZE_ADDRESS__)
#define MAGR_TEST_WITH_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MAGR_TEST_WITH_ASAN
#endif
#endif

#if !defined(MAGR_TEST_WITH_ASAN)
TEST_CASE("quantize_llama: threads that cannot be started are an error of the option", "[examples][program]") {
    const scratch_folder folder;
    const std::string text = quoted(folder.write("text.u16", ids({{1, 2, 3}})));
    write_model(folder);
    const std::string command = "ulimit -v 2000000; \"" MAGR_QUANTIZE_LLAMA "\" --model " + quoted(folder.path()) + " --calib " + text +
                                " --eval " + text + " --threads 1024 >/dev/null 2>\"" + (folder.path() / "err").string() + "\"";
    CHECK(std::system(command.c_str()) != 0);
    CHECK_THAT(folder.read("err"), mentions("--threads: 1024 threads cannot be started"));
}
#endif

TEST_CASE("quantize_llama: what is printed arrives, or the exit code says that it has not", "[examples][program]") {
    const scratch_folder folder;
    const std::string job = write_job(folder) + " --sample-tokens 0 --json " + quoted(folder.path() / "r.json");
    const auto shell = [&](const std::string& redirection) {
        const std::string command =
            "\"" MAGR_QUANTIZE_LLAMA "\" " + job + " " + redirection + " 2>\"" + (folder.path() / "err").string() + "\"";
        const int status = std::system(command.c_str());
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    };
    CHECK(shell(">/dev/null") == 0);
    CHECK(shell(">&-") == 2);
    CHECK_THAT(folder.read("err"), mentions("standard output: cannot be written"));
    CHECK(examples::json::parse(folder.read("r.json")).contains("results"));  // and no text for the terminal
    if (std::filesystem::exists("/dev/full")) CHECK(shell(">/dev/full") == 2);
}

namespace {

/// Starts the program without output.
pid_t start(const scratch_folder& folder, const std::string& arguments) {
    const std::string command =
        "exec \"" MAGR_QUANTIZE_LLAMA "\" " + arguments + " >/dev/null 2>\"" + (folder.path() / "err").string() + "\"";
    const pid_t child = fork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
        _exit(127);
    }
    return child;
}

/// The number of finished files in a folder.
std::ptrdiff_t count_files(const std::filesystem::path& folder) {
    std::ptrdiff_t count = 0;
    std::error_code gone;  // a file may be renamed at the same time
    for (auto entry = std::filesystem::recursive_directory_iterator(folder, gone); !gone && entry != std::filesystem::end(entry);
         entry.increment(gone))
        count += entry->path().extension() != ".part" && !entry->is_directory(gone);
    return count;
}

}  // namespace

TEST_CASE("quantize_llama: a signal leaves no unfinished file", "[examples][program]") {
    const scratch_folder folder;
    const std::string job = write_job(folder);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
        const auto out = folder.path() / ("out" + std::to_string(number));
        const pid_t child = start(
            folder, job + " --eval-tokens 200 --sample-tokens 4000 --json " + quoted(folder.path() / "r.json") + " --out " + quoted(out));
        REQUIRE(child > 0);
        while (!std::filesystem::exists(out / "quantization.json")) std::this_thread::sleep_for(std::chrono::microseconds(200));
        CHECK(std::filesystem::exists(folder.path() / "r.json.part"));
        kill(child, number);
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK((WIFSIGNALED(status) && WTERMSIG(status) == number));
        for (const auto& file : folder_contents(folder.path())) CHECK_FALSE(file.first.ends_with(".part"));
    }
}

TEST_CASE("quantize_llama: killed at any moment, it goes on and ends with the same files", "[examples][program][adversarial]") {
    const scratch_folder folder;
    const std::string job = write_job(folder);
    const auto whole = folder.path() / "whole", out = folder.path() / "resumed";
    REQUIRE(run(folder, job + " --out " + quoted(whole) + " --json " + quoted(folder.path() / "whole.json")) == 0);
    const std::string arguments = job + " --out " + quoted(out) + " --json " + quoted(folder.path() / "resumed.json");

    std::mt19937 random(11);
    int kills = 0;
    for (bool ended = false; !ended;) {
        // Each attempt finishes at least one more file before it is killed, so the loop ends.
        const std::ptrdiff_t enough = count_files(out) + 1 + static_cast<std::ptrdiff_t>(random() % 3);
        const auto later = std::chrono::microseconds(random() % 20'000);
        const pid_t child = start(folder, arguments);
        REQUIRE(child > 0);
        int status = 0;
        while (!(ended = waitpid(child, &status, WNOHANG) == child) && count_files(out) < enough)
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        if (!ended) {
            std::this_thread::sleep_for(later);
            kill(child, SIGKILL);
            REQUIRE(waitpid(child, &status, 0) == child);
            ended = WIFEXITED(status);  // it may have finished before the signal
            kills += !ended;
        }
        if (ended) {
            INFO(folder.read("err"));
            REQUIRE((WIFEXITED(status) && WEXITSTATUS(status) == 0));
        }
    }
    CHECK(kills >= 5);
    CHECK(folder_contents(out) == folder_contents(whole));
    const auto resumed = examples::json::parse(folder.read("resumed.json")), expected = examples::json::parse(folder.read("whole.json"));
    for (const char* key : {"perplexity", "kl", "output_error"})
        CHECK(resumed.at("results")[0].at(key) == expected.at("results")[0].at(key));
}

#endif

TEST_CASE("quantize_llama: a wrong command line is exit code 2, a question for help is 0", "[examples][program]") {
    const scratch_folder folder;
    for (const char* arguments : {"--alpha nan",
                                  "--alpha inf",
                                  "--alpha 1e7",
                                  "--damping nan",
                                  "--damping inf",
                                  "--damping 0",
                                  "--damping -1",
                                  "--beta nan",
                                  "--beta inf",
                                  "--beta 1.1",
                                  "--drift nan",
                                  "--drift 2",
                                  "--drift -0.1",
                                  "--group-size -2",
                                  "--group-size nan",
                                  "--group-size 1.5",
                                  "--eval-tokens 1",
                                  "--calib-tokens 9999999999999999",
                                  "--seed -1",
                                  "--seed 4294967296",
                                  "--refinement-rounds -1",
                                  "--bits nan",
                                  "--bits 9",
                                  "--bits 1",
                                  "--methods awq",
                                  "--alpha -1",
                                  "--beta 0",
                                  "--group-size 0",
                                  "--nonsense",
                                  "--model ''",
                                  "--calib ''",
                                  "--eval ''",
                                  "--json ''",
                                  "--report ''",
                                  "--out '' --methods rtn --bits 2",
                                  "--solver x",
                                  "--calib-tokens 0",
                                  "--threads 0",
                                  "extra",
                                  "--out x",
                                  "--out x --methods optq",
                                  "--out x --methods rtn,optq --bits 2",
                                  "--out-dtype f16",
                                  "--out x --out-dtype f64 --methods optq --bits 2"}) {
        CHECK(run(folder, arguments) == 2);
        CHECK_FALSE(folder.read("err").empty());
    }
    write_job(folder);
    const std::string text = quoted(folder.path() / "eval.u16");
    CHECK(run(folder, "--model " + quoted(folder.path()) + " --calib " + text + " --eval " + text +
                          " --sample-tokens 0 --methods rtn --bits 2 --group-size -1") == 0);
    CHECK_THAT(folder.read("out"), mentions("one scale per channel"));
    CHECK(run(folder, "--help") == 0);
    for (const char* option : {"--model",   "--calib",         "--eval",    "--calib-tokens", "--eval-tokens", "--bits",     "--group-size",
                               "--alpha",   "--beta",          "--damping", "--order",        "--solver",      "--methods",  "--seed",
                               "--threads", "--sample-tokens", "--json",    "--report",       "--out",         "--out-dtype"})
        CHECK_THAT(folder.read("out"), mentions(option));
}
