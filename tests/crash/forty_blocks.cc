#include "tests/crash/forty_blocks.h"

#include <algorithm>
#include <fstream>

#include "kernels/base/error.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

Words blocks_of_one(int64_t video_frames) {
  return {"--latents-only",
          "--block",
          "1",
          "--overlap",
          "1",
          "--num-frames",
          std::to_string(video_frames),
          "--steps",
          "3",
          "--width",
          "32",
          "--height",
          "32",
          "--checkpoint-every",
          "1"};
}

}  // namespace

Words forty_blocks() {
  return blocks_of_one(157);
}

Words five_blocks() {
  return blocks_of_one(21);
}

ShimmedRun::ShimmedRun(const Subject& subject, const fs::path& run, const Layout& layout,
                       Words variables) {
  const fs::path list = subject.folder("calls");
  subject.begin(run);
  fs::remove(list);
  variables.push_back("CRASH_LIST=" + list.string());
  ended_ = Job(subject.generate(run, layout), shim(run, variables), subject.log()).wait();
  std::ifstream file(list);
  for (ListedCall call; file >> call.number >> call.name >> call.path;) calls_.push_back(call);
}

long ShimmedRun::commits_before(long number) const {
  return std::count_if(calls_.begin(), calls_.end(), [&](const ListedCall& call) {
    return call.name == "sync_data" && call.number < number;
  });
}

std::vector<ListedCall> all_calls(const Subject& subject, const fs::path& run,
                                  const Layout& layout) {
  const ShimmedRun made(subject, run, layout, {});
  LT_CHECK(made.ended().code == 0, "the run whose calls are counted: {}", describe(made.ended()));
  const std::string problem = subject.check_hash(run);
  LT_CHECK(problem.empty(), "the run whose calls are counted: {}", problem);
  LT_CHECK(made.calls().size() > 500, "only {} file calls were seen: is the library loaded?",
           made.calls().size());
  return made.calls();
}

std::string share_text(const Calls& calls) {
  return calls.shares == 1 ? "" : fmt::format(", share {} of {}", calls.share + 1, calls.shares);
}

}  // namespace longtake::crash
