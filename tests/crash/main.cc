// crash PART NUMBER [SEED] [WORD]: one part of the crash tests; see README.md.
#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "kernels/base/error.h"
#include "tests/crash/parts.h"

int main(int argc, char** argv) {
  using namespace longtake::crash;
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() < 2) {
    fmt::print(
        stderr,
        "usage: crash kill_random|stop_random|kill_calls|kill_longer|inject_errors|power_loss|"
        "corrupt_files|rank_counts NUMBER [SEED] [file|folder|log]\n"
        "       crash kill_calls|kill_longer|inject_errors EVERY [SHARE/SHARES]\n");
    return 2;
  }
  const long number = std::atol(words[1].c_str());
  Calls calls{number};
  long share = 0, shares = 0;
  const bool shared =
      words.size() > 2 && std::sscanf(words[2].c_str(), "%ld/%ld", &share, &shares) == 2;
  if (shared) calls = {number, share, shares};
  const unsigned seed =
      words.size() > 2 && !shared ? static_cast<unsigned>(std::stoul(words[2])) : 1;
  const std::string word = words.size() > 3 ? words[3] : "";
  try {
    LT_CHECK(calls.every > 0 && 0 <= calls.share &&
                     calls.share<calls.shares, "expected 0/N to N-1/N, found {}", words.size()> 2
                 ? words[2]
                 : words[1]);
    int findings = -1;
    if (words[0] == "kill_random") findings = kill_random(number, seed);
    if (words[0] == "stop_random") findings = stop_random(number, seed);
    if (words[0] == "kill_calls") findings = kill_calls(calls);
    if (words[0] == "kill_longer") findings = kill_longer(calls);
    if (words[0] == "inject_errors") findings = inject_errors(calls);
    if (words[0] == "power_loss") findings = power_loss(number, seed, word);
    if (words[0] == "corrupt_files") findings = corrupt_files(number, seed);
    if (words[0] == "rank_counts") findings = rank_counts(number, seed);
    if (findings >= 0) return findings == 0 ? 0 : 1;
    fmt::print(stderr, "no part `{}`\n", words[0]);
  } catch (const std::exception& e) {
    fmt::print(stderr, "crash {}: {}\n", words[0], e.what());
  }
  return 2;
}
