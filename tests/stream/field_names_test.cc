// A description or a log that is not what it should be: the message names the field.
#include <doctest/doctest.h>
#include <zlib.h>

#include <nlohmann/json.hpp>

#include "runtime/stream/commit_log.h"
#include "tests/stream/sample_run.h"
#include "tests/support/expect_error.h"

namespace longtake {

using namespace testing;

namespace {

using Json = nlohmann::ordered_json;

// With its checksum.
std::string line_of(const Json& body) {
  const std::string text = body.dump();
  const auto crc =
      crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size()));
  return fmt::format("{} {:08x}\n", text, crc);
}

// What is said of a log of this one line.
std::string problem_of(const Json& body) {
  return parse_commit_log(line_of(body), "anchor").problem;
}

Json first_line() {
  return {{"seq", 1},
          {"epoch", 1},
          {"blocks",
           {{{"i", 0},
             {"first_frame", 0},
             {"frames", 2},
             {"file", block_file_name(0)},
             {"bytes", 9},
             {"sha256", "abc"}}}},
          {"state",
           {{"sweep", 3},
            {"files", {{{"file", state_file_name(1, 3, 0)}, {"bytes", 9}, {"sha256", "abc"}}}}}},
          {"prev", "anchor"}};
}

// Each field of the object that `at` finds in a line, left out and of another type.
void check_fields(const Json::json_pointer& at) {
  const Json line = first_line();
  for (const auto& [key, value] : line.at(at).items()) {
    Json without = first_line(), other = first_line();
    without[at].erase(key);
    other[at][key] = true;
    CAPTURE(key);
    if (key != "state") CHECK(problem_of(without).find("`" + key + "`") != std::string::npos);
    const std::string& inner = key == "state" ? "sweep" : key;
    CHECK(problem_of(other).find("`" + inner + "`") != std::string::npos);
  }
}

}  // namespace

TEST_CASE("a line of COMMIT is refused by its field") {
  CHECK(problem_of(first_line()).empty());
  for (const char* at : {"", "/blocks/0", "/state", "/state/files/0"})
    check_fields(Json::json_pointer(at));
  const auto with = [](const char* at, const Json& value) {
    Json line = first_line();
    line[Json::json_pointer(at)] = value;
    return problem_of(line);
  };
  CHECK(with("/seq", 2) == "line 1 does not hold: field `seq`: expected 1, found 2");
  CHECK(with("/prev", "other") ==
        "line 1 does not hold: field `prev`: it was written for another RUN.json");
  CHECK(with("/blocks/0/i", 1).starts_with("line 1 does not hold: field `blocks`: "));
  CHECK(with("/blocks/0/frames", 0).starts_with("line 1 does not hold: field `blocks`: "));
  CHECK(with("/state/sweep", 0).starts_with("line 1 does not hold: field `state`: "));
}

TEST_CASE("a line of COMMIT follows the line before") {
  Json first = first_line(), second = first_line();
  first.erase("state"), second.erase("state");  // its file's name holds the epoch
  first["epoch"] = 2;
  const std::string begin = line_of(first);
  second["seq"] = 2, second["prev"] = parse_commit_log(begin, "anchor").head;
  second["blocks"][0].update({{"i", 1}, {"first_frame", 2}, {"file", block_file_name(1)}});
  const auto problem_after = [&] {
    return parse_commit_log(begin + line_of(second), "anchor").problem;
  };
  CHECK(problem_after() == "line 2 does not hold: field `epoch`: 1 after 2");
  second["epoch"] = 2;
  CHECK(problem_after().empty());
  second["epoch"] = 3;
  CHECK(problem_after().empty());
  second["prev"] = "anchor";
  CHECK(problem_after() ==
        "line 2 does not hold: field `prev`: it does not follow the line before");
}

TEST_CASE("RUN.json is refused by its field") {
  const Json good = Json::parse(to_json(sample_identity()));
  const auto refused = [](const Json& json, const std::string& key) {
    const Error error = error_of([&] { parse_run_identity(json.dump(), "RUN.json"); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK(mentions(error, "RUN.json: field `" + key + "`: "));
  };
  CHECK_NOTHROW(parse_run_identity(good.dump(), "RUN.json"));
  for (const auto& [key, value] : good.items()) {
    Json without = good, other = good;
    without.erase(key);
    other[key] = Json::object();
    refused(without, key);
    refused(other, key);
  }
  Json prompt = good, size = good;
  prompt["prompts"][0].erase("frame");
  refused(prompt, "frame");
  size["latents"][2] = -1;
  refused(size, "latents");
  CHECK(mentions(error_of([] { parse_run_identity("{\n\"format\": ,\n", "RUN.json"); }),
                 "RUN.json is not the description of a run: [json.exception.parse_error.101] parse "
                 "error at line 2, column 11"));
}

}  // namespace longtake
