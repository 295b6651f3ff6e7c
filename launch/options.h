// The command line: what is asked for, from the flags, the configuration file and the environment.
#pragma once

#include <string>
#include <vector>

#include "launch/commands.h"
#include "launch/environment.h"
#include "launch/log.h"

namespace longtake {

enum class Command { print, generate, plan, decode, worker, info, verify, bench };

struct CommandLine {
  Command command = Command::print;
  std::string text;  // of Command::print: help or version
  RunConfig config;  // of generate and plan, finished; of the others only device and precision
  std::vector<std::string> notices;
  GenerateOptions generate;
  PlanOptions plan;
  DecodeOptions decode;
  WorkerOptions worker;
  InfoOptions info;
  VerifyOptions verify;
  BenchOptions bench;
  LogLevel log_level = LogLevel::info;
  bool json_log = false;
};

// `args` without the program's name. Fails with ExitCode::usage, all problems together.
CommandLine parse_command_line(const std::vector<std::string>& args,
                               const Environment& environment);

}  // namespace longtake
