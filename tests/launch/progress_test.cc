#include "launch/progress.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "launch/log.h"

namespace longtake {

TEST_CASE("the progress line says what is done, how fast, and what is left") {
  CHECK(progress_line({3, 13, 65, 260, 33, 401}, 20) ==
        "block 3/13 | step 65/260 | 33/401 frames, 1.6/s | 0:20 elapsed, 1:00 left");
  CHECK(progress_line({0, 1, 0, 20, 0, 81}, 0) ==
        "block 0/1 | step 0/20 | 0/81 frames, 0.0/s | 0:00 elapsed");
  CHECK(progress_line({1, 1, 20, 20, 81, 81}, 3) ==
        "block 1/1 | step 20/20 | 81/81 frames, 27/s | 0:03 elapsed");
  CHECK(progress_line({1, 2, 10, 20, 0, 0}, 7265) ==
        "block 1/2 | step 10/20 | 2:01:05 elapsed, 2:01:05 left");
}

TEST_CASE("a JSON log line is one line of JSON, whatever the text") {
  const std::string line = json_line(LogLevel::warning, "two\nlines, \"quoted\", \xff");

  const auto json = nlohmann::json::parse(line);
  CHECK(line.find('\n') == std::string::npos);
  CHECK(json.at("level") == "warning");
  CHECK(json.at("message").get<std::string>().starts_with("two\nlines, \"quoted\", "));
  CHECK(json.at("time").get<double>() > 1.7e9);
}

}  // namespace longtake
