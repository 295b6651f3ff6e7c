#include <fmt/core.h>

#include "tests/crash/forty_blocks.h"
#include "tests/crash/parts.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

constexpr int kCannotCreate = 73, kInputOutput = 74;

size_t messages(const std::string& text) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find("longtake: ", at)) != std::string::npos; ++at)
    count += at == 0 || text[at - 1] == '\n';
  return count;
}

// The end of a run in which `call` failed: empty, or what is wrong with it.
std::string check_end(const Ended& ended, const ListedCall& call, bool harmless, bool sticky) {
  if (ended.code == 0 && harmless) return "";
  // A library may make its first write when it creates a file.
  const bool creation = ended.text.find("cannot create") != std::string::npos;
  const int expected = creation ? kCannotCreate : kInputOutput;
  if (ended.code != expected) return fmt::format("expected code {}; {}", expected, describe(ended));
  if (messages(ended.text) != 1) return "not one message: " + describe(ended);
  std::string name = fs::path(call.path).filename().string();
  if (name.starts_with(".tmp.")) name.erase(0, 5);
  if (sticky) name = "/run";  // another may be first
  if (ended.text.find(name) == std::string::npos)
    return fmt::format("the message does not name {}: {}", name, describe(ended));
  return "";
}

std::string fail_at(const Subject& subject, long at, const std::string& error, const Layout& on,
                    bool sticky) {
  const fs::path run = subject.folder("run");
  Words variables{fmt::format("CRASH_ERROR={}:{}{}", at, error, sticky ? ":sticky" : "")};
  if (on.ranks > 1 && !on.loopback) variables.push_back(fmt::format("CRASH_RANK={}", on.ranks - 1));
  const ShimmedRun failed(subject, run, on, variables);
  if (static_cast<long>(failed.calls().size()) < at) return "";  // not reached this time
  const ListedCall& call = failed.calls().at(static_cast<size_t>(at - 1));
  // What a later commit does not need, or what is done again until all is written.
  const bool harmless = call.name == "close" || call.name == "unlink" || error == "SHORT";
  std::string problem = check_end(failed.ended(), call, harmless, sticky);
  Seen seen;
  if (problem.empty()) problem = check_committed(run, seen);
  if (problem.empty() && seen.commits < failed.commits_before(at))
    problem = fmt::format("{} commits were reported, {} are there", failed.commits_before(at),
                          seen.commits);
  if (problem.empty())
    problem = failed.ended().code == 0 ? subject.check_hash(run) : subject.finish(run, {1, true});
  return problem.empty() ? "" : fmt::format("{} {}: {}", call.name, call.path, problem);
}

}  // namespace

int inject_errors(const Calls& which) {
  const long every = which.every;
  const Subject subject(forty_blocks());
  const auto calls = all_calls(subject, subject.folder("run"), {2, true});
  static const Words kErrors{"EIO", "ENOSPC", "EDQUOT", "SHORT"};
  long turns = 0, points = 0, findings = 0;
  for (size_t i = 0; i < calls.size(); i += static_cast<size_t>(every)) {
    const size_t turn = i / static_cast<size_t>(every);
    for (size_t e = 0; e < (every == 1 ? kErrors.size() : 1); ++e) {
      const std::string& chosen = kErrors[(turn + e) % kErrors.size()];
      if (chosen == "SHORT" && calls[i].name != "write" && every == 1) continue;
      const std::string& error =
          chosen == "SHORT" && calls[i].name != "write" ? kErrors[turn % 3] : chosen;
      const long number = turns++;
      if (!which.mine(number)) continue;
      const bool mpi = number % 16 == 15, sticky = number % 3 == 2;
      const std::string problem =
          fail_at(subject, static_cast<long>(i) + 1, error, {2, !mpi}, sticky);
      ++points;
      if (problem.empty()) continue;
      ++findings;
      fmt::print("{}{} at call {} of {}: {}\n", error, sticky ? ", sticky," : "", i + 1,
                 mpi ? "a rank" : "the process", problem);
    }
  }
  fmt::print("failing file calls: {} points, every {}. of {} calls{}, {} findings\n", points, every,
             calls.size(), share_text(which), findings);
  return static_cast<int>(findings);
}

}  // namespace longtake::crash
