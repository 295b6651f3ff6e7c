// Any bytes as a commit log: what holds is a prefix, and it reads back as itself.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "runtime/stream/commit_log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const CommitLog log = parse_commit_log(text, "anchor");
  std::string written;
  for (const CommitRecord& record : log.records) written += commit_line(record);
  if (written != text.substr(0, log.valid_bytes)) std::abort();
  if (log.problem.empty() != (log.valid_bytes == size)) std::abort();
  return 0;
}
