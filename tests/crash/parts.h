// The parts of the crash tests, each a subcommand of `crash`. They print what they reached in one
// line and return how many findings there were.
#pragma once

#include <string>

namespace longtake::crash {

// Which file calls of a run: every `every`-th, and of those one in `shares`, so that several
// processes can do all of them between them.
struct Calls {
  long every = 1;
  long share = 0, shares = 1;
  bool mine(long turn) const { return turn % shares == share; }
};

// kill -9 at random moments, also of the run that goes on, until `kills` are done.
int kill_random(long kills, unsigned seed);
// SIGTERM, SIGINT and SIGUSR1 in the same way, to one rank or all, once or many times.
int stop_random(long stops, unsigned seed);
// kill -9 before, in the middle of and after file calls of a 40-block run.
int kill_calls(const Calls& calls);
// The same of a finished run that is made longer: that one is never lost.
int kill_longer(const Calls& calls);
// EIO, ENOSPC, EDQUOT and short writes at file calls.
int inject_errors(const Calls& calls);
// `images` of what a disk may hold after a power cut. `ignored`: file, folder or log, whose fsync
// is taken for not done, so that there must be findings; empty: none.
int power_loss(long images, unsigned seed, const std::string& ignored);
// `files` spoilt copies of the files of a run, read by everything that reads them.
int corrupt_files(long files, unsigned seed);
// Killed on `from` ranks, resumed on `to`: `pairs` of the 36 of {1, 2, 3, 4, 6, 8}.
int rank_counts(long pairs, unsigned seed);

}  // namespace longtake::crash
