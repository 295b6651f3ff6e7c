// Runs every case found under the golden folder (LONGTAKE_GOLDEN_DIR, default tests/golden/data).
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <vector>

#include "kernels/base/isa.h"
#include "tests/golden/golden_case.h"

namespace longtake::testing {

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> find_cases() {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::recursive_directory_iterator(golden_folder()))
    if (entry.path().filename() == "case.json") folders.push_back(entry.path().parent_path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

// Image-conditioned models are refused for now.
bool is_out_of_scope(const GoldenCase& golden) {
  const std::string kind = golden.json().at("kind");
  const std::string name = golden.name();
  return kind == "image_pipeline" || name == "dit/i2v" || name == "dit/flf2v";
}

const std::map<std::string, std::function<void(GoldenCase&)>>& runners() {
  static const std::map<std::string, std::function<void(GoldenCase&)>> all{
      {"block_queue", run_block_queue_case},
      {"dit", run_dit_case},
      {"vae", run_vae_case},
      {"umt5", run_umt5_case},
      {"scheduler", run_scheduler_case},
      {"pipeline", run_pipeline_case},
  };
  return all;
}

}  // namespace

TEST_CASE("golden: every case is within its tolerance") {
  std::printf("instruction set %s\n", std::string(name(active_isa())).c_str());
  int run = 0;
  for (const fs::path& folder : find_cases()) {
    GoldenCase golden(folder);
    if (is_out_of_scope(golden)) {
      std::printf("%-20s out of scope\n", golden.name().c_str());
      continue;
    }
    CAPTURE(golden.name());
    const auto runner = runners().find(golden.json().at("kind"));
    REQUIRE(runner != runners().end());
    runner->second(golden);
    golden.print();
    ++run;
  }
  CHECK(run >= 13);
}

}  // namespace longtake::testing
