#include "launch/plan_flags.h"

namespace longtake {

void add_plan_flags(CLI::App* command, PlanOptions& p) {
  const char* const group = "Plan";
  const auto whole = CLI::Range(int64_t{1}, int64_t{1} << 20).description("");
  command
      ->add_option("--ranks", p.ranks,
                   "devices to plan for, attention workers among them (default: 1 and the workers)")
      ->type_name("N")
      ->check(whole)
      ->group(group);
  command
      ->add_option(
          "--hardware", p.hardware,
          "of a rank: h100, h200, a100, rtx4090, uniform (every visit of a stage takes one "
          "slot), or a file (default: this machine, measured now)")
      ->type_name("NAME")
      ->group(group);
  command->add_flag("--endless", p.endless, "a video without end; also --frames endless")
      ->group(group);
  command->add_option("--sweeps", p.sweeps, "how far to simulate (default: all that matters)")
      ->type_name("N")
      ->check(whole)
      ->group(group);
  command->add_flag("--grid", p.grid, "draw ranks by time")->group(group);
  command->add_flag("--json", p.json, "numbers as JSON")->group(group);
  command->add_flag("--text", p.text, "the instructions, one per line")->group(group);
  command->add_option("--rank", p.rank, "of --text: this rank only")
      ->type_name("R")
      ->check(CLI::NonNegativeNumber.description(""))
      ->group(group);
  command
      ->add_flag("--calibrate", p.calibrate,
                 "measure this machine (a few seconds) and write its profile")
      ->group(group);
  command->add_option("-o,--output", p.output, "file for --calibrate (default: standard output)")
      ->type_name("FILE")
      ->group(group);
  command->footer(
      "Example:\n  longtake plan configs/wan2.1-t2v-14b.yaml --size 1280x720 --frames 1025 "
      "--ranks 8 --hardware h100");
}

}  // namespace longtake
