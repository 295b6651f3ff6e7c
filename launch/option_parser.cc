#include "launch/option_parser.h"

#include "launch/bench/bench.h"
#include "launch/config_flags.h"
#include "launch/plan_flags.h"
#include "launch/version.h"

namespace longtake {

namespace {

constexpr const char* kExitCodes =
    "Exit codes:\n"
    "   0 done            1 error                  2 bad usage or configuration\n"
    "  65 bad input data  66 missing input         73 cannot create output\n"
    "  74 I/O error       75 stopped with a commit written: run again to continue\n"
    "  86 a rank made no progress\n";

}  // namespace

OptionParser::OptionParser(const Environment& environment)
    : threads_(environment.threads.value_or(0)),
      mpi_(environment.mpi),
      least_worker_work_(environment.least_worker_work),
      job_end_(environment.job_end) {
  app_.set_version_flag("--version", [] { return version_text(); });
  app_.require_subcommand(0, 1);
  app_.allow_extras();
  // Of a flag given twice the last counts: scripts append to what they were given.
  app_.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app_.get_formatter()->column_width(38);
  app_.footer(
      "`longtake COMMAND --help` says more about a command. With several ranks:\n"
      "  mpirun -n 4 longtake generate run.yaml\n\n" +
      environment_help() + "\n" + kExitCodes);
  add_generate();
  add_resume();
  add_plan();
  add_decode();
  add_worker();
  add_info_and_verify();
  add_bench();
}

void OptionParser::add_setting(CLI::App* command, const char* setting, const std::string& flags,
                               const std::string& type, const std::string& group,
                               const std::string& help) {
  command->add_option(flags, settings_[setting], help)->type_name(type)->group(group);
  flag_of_[setting] = flags.substr(0, flags.find(','));
}

void OptionParser::add_common(CLI::App* command, bool progress) {
  const char* const group = "Messages";
  command->allow_extras();
  command->add_flag("-q,--quiet", quiet_, "errors only")->group(group);
  command->add_flag("-v,--verbose", verbose_, "more detail")->group(group);
  command->add_flag("--json-log", out_.json_log, "messages as JSON, one object per line")
      ->group(group);
  if (progress) command->add_flag("--no-progress", no_progress_, "no progress line")->group(group);
}

void OptionParser::add_machine(CLI::App* command) {
  command
      ->add_option("--threads", threads_,
                   "threads of each rank (default: cores / ranks on the node)")
      ->type_name("N")
      ->check(CLI::Range(0, 4096).description(""))
      ->group("Machine");
}

// What `generate` and `plan` have in common: all that shapes a run.
void OptionParser::add_run_flags(CLI::App* command) {
  command->add_option("config", config_file_, "configuration in YAML; flags beat it")
      ->type_name("[CONFIG.yaml]");
  const char* const input = "Model and prompt";
  command->add_option("-p,--prompt", prompt_, "what should be seen; replaces a storyboard")
      ->type_name("TEXT")
      ->group(input);
  command
      ->add_option("--prompt-file", prompt_file_, "storyboard: lines `[6s] text` or `[96f] text`")
      ->type_name("FILE")
      ->group(input);
  command->add_option("--size", size_, "832*480 or 832x480: width and height at once")
      ->type_name("WxH")
      ->group("Video");
  add_seconds(command);
  command->add_flag("--latents-only", latents_only_, "no video: needs no VAE in the model folder")
      ->group("Output");
  add_machine(command);
  add_common(command, true);
}

void OptionParser::add_seconds(CLI::App* command) {
  command->add_option("--seconds", seconds_, "length, instead of --num-frames")
      ->type_name("X")
      ->group("Video");
}

void OptionParser::add_generate() {
  CLI::App* command = app_.add_subcommand("generate", "make a video from a prompt or a storyboard");
  add_run_flags(command);
  for (const ConfigFlag& f : config_flags()) {
    add_setting(command, f.setting, f.flags, f.type, f.group, f.help);
  }
  add_deadline(command);
  command
      ->add_option(
          "--hardware", hardware_,
          "profile that the layers are shared out by, a name or a file (default: measured)")
      ->type_name("NAME")
      ->group("Machine");
  command->footer(
      "Example:\n  longtake generate --model Wan2.1-T2V-1.3B-Diffusers -p \"a cat on a beach\" "
      "--seconds 10");
}

void OptionParser::add_deadline(CLI::App* command) {
  command
      ->add_option("--deadline", deadline_s_,
                   "give up when another rank is not heard of for this long")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 1e6).description(""))
      ->capture_default_str()
      ->group("Machine");
}

// Only what does not shape the latents may be chosen anew, and more frames for a finished run.
void OptionParser::add_resume() {
  CLI::App* command = app_.add_subcommand(
      "resume",
      "go on with a run that was stopped or died, or make a finished one longer, on any number of "
      "ranks");
  command->add_option("run", resume_, "run folder")->type_name("RUN")->required();
  for (const ConfigFlag& f : config_flags()) {
    const std::string section = std::string(f.setting).substr(0, std::string(f.setting).find('.'));
    if (section == "parallel" || section == "checkpoint" || section == "model" ||
        section == "offload" || std::string_view(f.setting) == "video.frames")
      add_setting(command, f.setting, f.flags, f.type, f.group, f.help);
  }
  add_seconds(command);
  add_deadline(command);
  add_machine(command);
  add_common(command, true);
  command->footer(
      "Examples:\n  mpirun -n 4 longtake resume runs/first\n"
      "  longtake resume runs/first --num-frames 801");
}

void OptionParser::add_plan() {
  CLI::App* command = app_.add_subcommand(
      "plan", "schedule, time and bytes of a run on any number of ranks, without running it");
  add_plan_flags(command, out_.plan);
  add_run_flags(command);
  for (const ConfigFlag& f : config_flags())
    if (std::string_view(f.setting) != "output.run")
      add_setting(command, f.setting, f.flags, f.type, f.group, f.help);
}

void OptionParser::add_decode() {
  CLI::App* command = app_.add_subcommand(
      "decode", "make the video again from the latents of a run, also while it goes on");
  command->add_option("run", out_.decode.run, "run folder")->type_name("RUN")->required();
  command
      ->add_option("-o,--output", out_.decode.output,
                   "video file (default: video.mp4 in the run folder)")
      ->type_name("FILE");
  command
      ->add_option("--frames", frame_range_, "only video frames A to B - 1; either may be left out")
      ->type_name("A:B");
  command
      ->add_option("--model,--model-path", out_.decode.model,
                   "model folder (default: the one of the run)")
      ->type_name("FOLDER");
  add_setting(command, "output.vae_tiles", "--vae-tiles,--vae-tiling,--vae-tile", "N", "Machine",
              "decode in overlapping tiles of N pixels a side: auto, off or a multiple of 64");
  command->add_option("--device", settings_["device"], "auto, cpu or cuda")
      ->type_name("NAME")
      ->group("Machine");
  command->add_option("--precision", settings_["precision"], "auto, f32 or bf16")
      ->type_name("NAME")
      ->group("Machine");
  add_machine(command);
  add_common(command, true);
}

void OptionParser::add_worker() {
  CLI::App* command = app_.add_subcommand(
      "worker", "compute attention for a run until it ends; may join and leave at any time");
  command
      ->add_option("--connect", out_.worker.connect,
                   "address file of a run with --accept-workers on or --workers N")
      ->type_name("RUN/workers.addr")
      ->required();
  command
      ->add_option("--wait", out_.worker.wait_s,
                   "seconds to wait for a run that is still starting (default 60)")
      ->type_name("S")
      ->check(CLI::Range(0.0, 1e9).description(""));
  command
      ->add_option("--keep-keys", out_.worker.keep_mb,
                   "memory in MB for keys that will be asked for again (default 1024)")
      ->type_name("MB")
      ->check(CLI::Range(0, 1'000'000'000).description(""));
  command->add_option("--gpu", out_.worker.gpu, "which GPU of this host (default 0)")
      ->type_name("N")
      ->check(CLI::Range(0, 1024).description(""))
      ->group("Machine");
  command->add_option("--device", settings_["device"], "auto, cpu or cuda: as the run's ranks")
      ->type_name("NAME")
      ->group("Machine");
  add_machine(command);
  add_common(command, false);
  command->footer(
      "Example:\n  longtake worker --connect runs/first/workers.addr --threads 8\n"
      "The file is a secret (mode 0600): who has it can take part in the run.");
}

void OptionParser::add_info_and_verify() {
  CLI::App* info = app_.add_subcommand("info", "what a run folder or a model folder holds");
  info->add_option("path", out_.info.path, "run folder or model folder")
      ->type_name("PATH")
      ->required();
  add_common(info, false);
  CLI::App* verify = app_.add_subcommand(
      "verify", "check a run's commit log and the hash of every file; changes nothing");
  verify->add_option("run", out_.verify.run, "run folder")->type_name("RUN")->required();
  verify->add_flag("--full", out_.verify.full, "also read every block and print latents_sha256");
  add_common(verify, false);
}

void OptionParser::add_bench() {
  CLI::App* command =
      app_.add_subcommand("bench", "time one part and compare it with the reference");
  BenchOptions& b = out_.bench;
  std::string names;
  for (const std::string& name : bench_names()) names += (names.empty() ? "" : ", ") + name;
  command->add_option("name", b.name, names)
      ->type_name("NAME")
      ->required()
      ->check(CLI::IsMember(bench_names()).description(""));
  const auto number = [&](const char* flag, int64_t& value, const char* help, int64_t low = 1) {
    command->add_option(flag, value, help)
        ->type_name("N")
        ->check(CLI::Range(low, int64_t{1} << 40).description(""))
        ->capture_default_str();
  };
  number("--dim", b.dim, "model width");
  number("--heads", b.heads, "attention heads");
  number("--head-dim", b.head_dim, "width of a head");
  number("--ffn", b.ffn, "width of the feed-forward layer");
  number("--tokens", b.tokens, "tokens");
  number("--kv-tokens", b.kv_tokens, "keys, 0: as many as tokens", 0);
  number("--vae-dim", b.vae_dim, "base width of the VAE");
  number("--width", b.width, "pixels of a video frame");
  number("--height", b.height, "pixels of a video frame");
  number("--frames", b.frames, "frames of video, 0: 9, 81 and 401", 0);
  number("--vae-tile", b.vae_tile, "pixels of the VAE's tiles, 0: whole pictures", 0);
  number("--block", b.block, "latent frames of a stage's visit; tokens are shared out among them");
  number("--overlap", b.overlap, "latent frames that it sees of each neighbour", 0);
  command->add_option("--layers", layers_, "layers A to B - 1 of the stage (default 0:2)")
      ->type_name("A:B");
  number("--repeat", b.repeat, "repetitions");
  command->add_option("--dtype", settings_["precision"], "f32 or bf16 (default f32)")
      ->type_name("NAME");
  command->add_option("--model", b.model, "model folder, for the benches that need weights")
      ->type_name("FOLDER");
  command->add_option("--device", settings_["device"], "auto, cpu or cuda")->type_name("NAME");
  command->add_option("--folder", b.folder, "where bench store writes (default: temporary files)")
      ->type_name("FOLDER");
  command->add_option("--json", b.json, "also write the rows to FILE")->type_name("FILE");
  add_machine(command);
  add_common(command, false);
}

// CLI11 says only that an argument was not expected; the nearest flag or command is more helpful.

}  // namespace longtake
