// Any bytes as a configuration file: problems or a configuration that survives being written and
// read.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "launch/config_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  const std::string text(reinterpret_cast<const char*>(data), size);
  RunConfig config;
  Problems problems;
  std::vector<std::string> notices;
  if (!read_config_text(text, "fuzz.yaml", "/folder", config, problems)) return 0;
  finish(config, problems, notices);
  if (!problems.empty()) return 0;
  const std::string yaml = to_yaml(config);
  RunConfig again;
  read_config_text(yaml, "again.yaml", "/folder", again, problems);
  finish(again, problems, notices);
  if (!problems.empty() || to_yaml(again) != yaml) std::abort();
  return 0;
}
