// The commands and flags that CLI11 reads, and what becomes of them: option_parser.cc says what
// there is, options.cc makes a CommandLine of what was given.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launch/options.h"
#include "launch/problems.h"

namespace longtake {

class OptionParser {
 public:
  explicit OptionParser(const Environment& environment);
  CommandLine parse(std::vector<std::string> args);

 private:
  void add_seconds(CLI::App* command);
  void add_generate();
  void add_resume();
  void add_deadline(CLI::App* command);
  void add_plan();
  void add_run_flags(CLI::App* command);
  void add_decode();
  void add_worker();
  void add_info_and_verify();
  void add_bench();
  void add_common(CLI::App* command, bool progress);
  void add_machine(CLI::App* command);

  void refuse_unknown(const std::vector<std::string>& args) const;
  void apply_settings();
  void apply_size();
  void apply_prompts();
  void apply_frame_range();
  void apply_layers();
  void finish_plan();
  void finish_command(const CLI::App& command);

  void add_setting(CLI::App* command, const char* setting, const std::string& flags,
                   const std::string& type, const std::string& group, const std::string& help);

  CLI::App app_{"longtake makes minute-long videos with diffusion transformers.", "longtake"};
  CommandLine out_;
  Problems problems_;
  // Flags that are settings, as given.
  std::map<std::string, std::optional<std::string>> settings_;
  std::map<std::string, std::string> flag_of_;
  std::filesystem::path resume_;
  std::optional<std::string> config_file_, prompt_, prompt_file_, size_, frame_range_, layers_;
  std::string hardware_;
  std::optional<double> seconds_;
  bool latents_only_ = false, quiet_ = false, verbose_ = false, no_progress_ = false;
  int threads_;
  bool mpi_;
  std::optional<double> least_worker_work_;
  std::optional<int64_t> job_end_;
  double deadline_s_ = GenerateOptions{}.deadline_s;
};

}  // namespace longtake
