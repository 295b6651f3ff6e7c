// The run whose every file call is tried: 40 blocks, states as often as they can be had.
#pragma once

#include "tests/crash/parts.h"
#include "tests/crash/subject.h"

namespace longtake::crash {

Words forty_blocks();
Words five_blocks();  // the same, but a run of 5 that becomes one of 39 with forty_blocks()

struct ListedCall {
  long number = 0;
  std::string name, path;
};

// The run with the library, from where its subject begins: its calls are listed.
class ShimmedRun {
 public:
  ShimmedRun(const Subject& subject, const std::filesystem::path& run, const Layout& layout,
             Words variables);

  const Ended& ended() const { return ended_; }
  const std::vector<ListedCall>& calls() const { return calls_; }
  // Commits that were reported before call `number`: the calls of fdatasync that came back.
  long commits_before(long number) const;

 private:
  std::vector<ListedCall> calls_;
  Ended ended_;
};

// The calls of one undisturbed run.
// ", share K of N" of the lines that tell what was reached; empty for all.
std::string share_text(const Calls& calls);

std::vector<ListedCall> all_calls(const Subject& subject, const std::filesystem::path& run,
                                  const Layout& layout);

}  // namespace longtake::crash
