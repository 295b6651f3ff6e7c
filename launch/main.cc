// The program: reads the command line, runs one command, turns errors into a message and an exit
// code.
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include "kernels/base/error.h"
#include "launch/commands.h"
#include "launch/environment.h"
#include "launch/log.h"
#include "launch/options.h"

namespace longtake {

namespace {

int run(const CommandLine& line) {
  switch (line.command) {
    case Command::print:
      std::fputs(line.text.c_str(), stdout);
      return 0;
    case Command::generate:
      return run_generate(line.config, line.generate);
    case Command::plan:
      return run_plan(line.config, line.plan);
    case Command::decode:
      return run_decode(line.decode);
    case Command::worker:
      return run_worker_command(line.worker);
    case Command::info:
      return run_info(line.info);
    case Command::verify:
      return run_verify(line.verify);
    case Command::bench:
      return run_bench(line.bench);
  }
  return static_cast<int>(ExitCode::error);
}

int run(int argc, char** argv) {
  try {
    const Environment environment = read_environment();
    if (environment.isa) set_isa(*environment.isa);
    const CommandLine line = parse_command_line({argv + 1, argv + argc}, environment);
    set_up_log(line.log_level, line.json_log);
    // Every rank reads the same configuration: its notices are said once, by rank 0.
    if (!environment.mpi)
      for (const std::string& notice : line.notices) log_info("{}", notice);
    return run(line);
  } catch (const Error& e) {
    log_text(LogLevel::error, e.what());
    return static_cast<int>(e.code());
  } catch (const std::bad_alloc&) {
    log_text(LogLevel::error, "out of memory");
  } catch (const std::exception& e) {
    log_text(LogLevel::error, e.what());
  }
  return static_cast<int>(ExitCode::error);
}

// Full disks, file size limits and readers that left are told by return values, not by death: a run
// must not end because nobody reads its messages any more.
void prefer_return_values() {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
}

}  // namespace

}  // namespace longtake

int main(int argc, char** argv) {
  longtake::prefer_return_values();
  int code = longtake::run(argc, argv);
  if ((std::fflush(stdout) != 0 || std::ferror(stdout)) && code == 0) {
    // `longtake --help | head -1` is no mistake: who reads knows why the rest is not wanted.
    if (errno != EPIPE) std::fputs("longtake: cannot write to standard output\n", stderr);
    code = static_cast<int>(longtake::ExitCode::io);
  }
  longtake::flush_log();
  // Libraries that failed before (HDF5 on a full disk) must not run their exit handlers.
  if (code != 0) _exit(code);
  return code;
}
