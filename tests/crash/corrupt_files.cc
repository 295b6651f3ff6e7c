#include <fmt/core.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <random>
#include <regex>

#include "kernels/base/error.h"
#include "runtime/stream/block_file.h"
#include "runtime/stream/latent_reader.h"
#include "runtime/stream/latent_store.h"
#include "runtime/stream/state_file.h"
#include "runtime/stream/verify_run.h"
#include "tests/crash/forty_blocks.h"
#include "tests/crash/mutate.h"
#include "tests/crash/parts.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

constexpr int kFine = 0, kRefused = 10, kWrong = 11, kUnnamed = 12;
constexpr int kSeconds = 20;
constexpr rlim_t kMemory = rlim_t{4} << 30;

struct Original {
  fs::path run;
  std::vector<std::string> files;   // that are spoilt
  std::vector<OwnedTensor> blocks;  // as they were committed
};

// An unfinished run with two states, ended by a signal at a file call.
Original make_original(const Subject& subject) {
  Original out;
  out.run = subject.folder("original");
  const ShimmedRun killed(subject, out.run, {2, true}, {"CRASH_KILL=800:after"});
  LT_CHECK(killed.ended().signal == SIGKILL, "the run to spoil: {}", describe(killed.ended()));
  // Opened and closed once, it holds no leftovers of the kill, which would be noticed too.
  LatentStore(out.run, LatentReader(out.run).identity()).close();
  const LatentReader reader(out.run);
  for (size_t i = 0; i < reader.blocks().size(); ++i) out.blocks.push_back(reader.read(i));
  LT_CHECK(out.blocks.size() >= 5 && reader.log().states.size() >= 2, "the run is too short");
  const size_t states = reader.log().states.size();
  out.files = {"COMMIT", "COMMIT", "RUN.json", "RUN.json", "stream.h5"};
  for (const size_t i : {size_t{0}, out.blocks.size() - 1})
    out.files.push_back(reader.blocks()[i].file);
  for (size_t i = states - 2; i < states; ++i)
    for (const StateFile& file : reader.log().states[i].files) out.files.push_back(file.file);
  return out;
}

// What a refusal must name beside the file: a line of COMMIT, a line or a field of RUN.json, and of
// the others what COMMIT says of them. A description that changed speaks through the log, which
// names its hash; a log that lost its last lines through the states that it then ends with, or
// through the files that belong to no line.
bool names_file_and_field(const std::string& text, const std::string& file) {
  const auto says = [&](const char* pattern) {
    return std::regex_search(text, std::regex(pattern));
  };
  if (file == "COMMIT")
    return says("COMMIT: line [0-9]+ does not hold: ") ||
           says("the state before sweep [0-9]+( is lost)?: .*(bytes|SHA-256|No such file)") ||
           says("^(out|state)/[a-z0-9.]+ belongs to no commit");
  if (file == "RUN.json")
    return says("RUN.json: field `[a-z_]+`: ") || says("RUN.json is not .* line [0-9]+, column ") ||
           says("COMMIT: line 1 does not hold: field `prev`: .*RUN.json");
  return text.find(fs::path(file).filename().string()) != std::string::npos &&
         says("holds [0-9]+ bytes, COMMIT says |its SHA-256 is [0-9a-f]+, COMMIT says ");
}

// The same of what libhdf5 refuses: the file, and the data set or attribute if it got that far.
bool names_file_and_part(const std::string& text, const std::string& file) {
  return text.find(file) != std::string::npos &&
         std::regex_search(text, std::regex("cannot open |latents|list|b[0-9]{8}\\.[vs][0-9]+"));
}

int require(bool named, const std::string& file, const std::string& text) {
  if (!named) fmt::print("{}: {}\n", file, text);
  return named ? kRefused : kUnnamed;
}

// What the commands of longtake do with a run, in this process. Blocks that are read must be those
// that were committed.
int read_all(const Original& original, const fs::path& run, const std::string& file) {
  const VerifyReport report = verify_run(run, false);
  const LatentReader reader(run);
  for (size_t i = 0; i < reader.blocks().size() && report.problems.empty(); ++i) {
    const OwnedTensor found = reader.read(i);
    const OwnedTensor& expected = original.blocks.at(i);
    if (found.bytes() != expected.bytes() ||
        std::memcmp(found.as<float>(), expected.as<float>(), found.bytes()) != 0)
      return kWrong;
  }
  const StateChoice choice = choose_state(run, reader.log().states);
  if (choice.state) (void)StateFiles(reader, *choice.state);
  LatentStore store(run, reader.identity());  // as resume does
  for (size_t i = 0; i < store.committed_blocks().size(); ++i)
    store.confirm(static_cast<int64_t>(i), original.blocks.at(i));
  std::vector<std::string> said = report.problems;
  said.insert(said.end(), report.notes.begin(), report.notes.end());
  if (!store.notice().empty()) said.push_back(store.notice());
  for (const std::string& text : said)
    if (require(names_file_and_field(text, file), file, text) == kUnnamed) return kUnnamed;
  return said.empty() ? kFine : kRefused;
}

// The library for HDF5 without the hash before it, as another program reads stream.h5: only that it
// does not crash, and that a refusal names what it refuses.
int read_without_hash(const fs::path& run) {
  int code = kFine;
  const auto refused = [&](const std::string& file, const Error& e) {
    if (require(names_file_and_part(e.what(), file), file, e.what()) == kUnnamed) code = kUnnamed;
  };
  const LatentReader reader(run);
  for (const CommittedBlock& block : reader.blocks()) {
    try {
      (void)read_block_file(run / block.file, block, reader.identity());
    } catch (const Error& e) {
      refused(block.file, e);
    }
  }
  for (const CommittedState& state : reader.log().states) {
    try {
      (void)StateFiles(reader, state);
    } catch (const Error& e) {
      refused("state/e", e);  // of any rank; files of older states are gone
    }
  }
  return code;
}

[[noreturn]] void child(const Original& original, const fs::path& run, const std::string& file) {
  const rlimit memory{kMemory, kMemory}, core{0, 0};
  ::setrlimit(RLIMIT_AS, &memory);
  ::setrlimit(RLIMIT_CORE, &core);
  ::alarm(kSeconds);
  int code = kRefused;
  try {
    int raw = kFine;
    try {
      raw = read_without_hash(run);
    } catch (const Error&) {
      // Of the log or the description: read_all() meets it too.
    }
    code = read_all(original, run, file);
    if (raw == kUnnamed) code = raw;
  } catch (const Error& e) {
    code = require(names_file_and_field(e.what(), file), file, e.what());
  }
  std::fflush(stdout);
  ::_exit(code);
}

// The child's exit code, or minus the signal that ended it.
int read_in_child(const Original& original, const fs::path& run, const std::string& file) {
  std::fflush(stdout);
  const pid_t id = ::fork();
  LT_CHECK(id >= 0, "no process");
  if (id == 0) child(original, run, file);
  int status = 0;
  LT_CHECK(::waitpid(id, &status, 0) == id, "the reader is lost");
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

int corrupt_files(long files, unsigned seed) {
  const Subject subject(forty_blocks());
  const Original original = make_original(subject);
  const fs::path run = subject.folder("spoilt");
  fs::copy(original.run, run, fs::copy_options::recursive);
  LT_CHECK(read_in_child(original, run, "COMMIT") == kFine,
           "the run is not fine before it is spoilt");
  std::mt19937 random(seed);
  long findings = 0, refused = 0, harmless = 0;
  for (long i = 0; i < files; ++i) {
    const std::string& file = original.files[static_cast<size_t>(i) % original.files.size()];
    fs::remove_all(run);
    fs::copy(original.run, run, fs::copy_options::recursive);
    const std::string before = file_text(run / file);
    const Mutated spoilt = mutate(before, random);
    std::ofstream(run / file, std::ios::binary) << spoilt.text;
    const int code = read_in_child(original, run, file);
    harmless += code == kFine;
    refused += code == kRefused;
    // stream.h5 is a view that nothing reads; a line that is left out at the end is a commit less.
    const bool silent = code == kFine && spoilt.text != before && file != "stream.h5" &&
                        !(file == "COMMIT" && before.starts_with(spoilt.text));
    if (code != kFine && code != kRefused) {
      ++findings;
      fmt::print("{} with {}: reader ended with {}\n", file, spoilt.what, code);
    } else if (silent) {
      ++findings;
      fmt::print("{} with {}: nobody noticed\n", file, spoilt.what);
    }
  }
  fmt::print("spoilt files: {}, {} refused, {} without a difference, {} findings\n", files, refused,
             harmless, findings);
  return static_cast<int>(findings);
}

}  // namespace longtake::crash
