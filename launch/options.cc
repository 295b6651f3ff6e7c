#include "launch/options.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <map>

#include "kernels/base/error.h"
#include "launch/bench/bench.h"
#include "launch/config_file.h"
#include "launch/config_flags.h"
#include "launch/nearest_name.h"
#include "launch/plan_flags.h"
#include "launch/settings.h"
#include "launch/version.h"

namespace longtake {

namespace {

constexpr const char* kExitCodes =
    "Exit codes:\n"
    "   0 done            1 error                  2 bad usage or configuration\n"
    "  65 bad input data  66 missing input         73 cannot create output\n"
    "  74 I/O error       75 stopped with a commit written: run again to continue\n"
    "  86 a rank made no progress\n";

// Flags take - and _ alike: "--num_frames=81" is "--num-frames=81".
std::vector<std::string> with_dashes(std::vector<std::string> args) {
  for (std::string& arg : args) {
    if (arg == "--") break;
    if (!arg.starts_with("--")) continue;
    const size_t end = std::min(arg.find('='), arg.size());
    std::replace(arg.begin(), arg.begin() + static_cast<std::ptrdiff_t>(end), '_', '-');
  }
  return args;
}

bool parse_whole(std::string_view text, int64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

class Parser {
 public:
  explicit Parser(const Environment& environment);
  CommandLine parse(std::vector<std::string> args);

 private:
  void add_generate();
  void add_resume();
  void add_deadline(CLI::App* command);
  void add_plan();
  void add_run_flags(CLI::App* command);
  void add_decode();
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
  std::optional<int64_t> job_end_;
  double deadline_s_ = GenerateOptions{}.deadline_s;
};

Parser::Parser(const Environment& environment)
    : threads_(environment.threads.value_or(0)),
      mpi_(environment.mpi),
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
  add_info_and_verify();
  add_bench();
}

void Parser::add_setting(CLI::App* command, const char* setting, const std::string& flags,
                         const std::string& type, const std::string& group,
                         const std::string& help) {
  command->add_option(flags, settings_[setting], help)->type_name(type)->group(group);
  flag_of_[setting] = flags.substr(0, flags.find(','));
}

void Parser::add_common(CLI::App* command, bool progress) {
  const char* const group = "Messages";
  command->allow_extras();
  command->add_flag("-q,--quiet", quiet_, "errors only")->group(group);
  command->add_flag("-v,--verbose", verbose_, "more detail")->group(group);
  command->add_flag("--json-log", out_.json_log, "messages as JSON, one object per line")
      ->group(group);
  if (progress) command->add_flag("--no-progress", no_progress_, "no progress line")->group(group);
}

void Parser::add_machine(CLI::App* command) {
  command
      ->add_option("--threads", threads_,
                   "threads of each rank (default: cores / ranks on the node)")
      ->type_name("N")
      ->check(CLI::Range(0, 4096).description(""))
      ->group("Machine");
}

// What `generate` and `plan` have in common: all that shapes a run.
void Parser::add_run_flags(CLI::App* command) {
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
  command->add_option("--seconds", seconds_, "length, instead of --num-frames")
      ->type_name("X")
      ->group("Video");
  command->add_flag("--latents-only", latents_only_, "no video: needs no VAE in the model folder")
      ->group("Output");
  add_machine(command);
  add_common(command, true);
}

void Parser::add_generate() {
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

void Parser::add_deadline(CLI::App* command) {
  command
      ->add_option("--deadline", deadline_s_,
                   "give up when another rank is not heard of for this long")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 1e6).description(""))
      ->capture_default_str()
      ->group("Machine");
}

// Only what does not shape the latents may be chosen anew.
void Parser::add_resume() {
  CLI::App* command = app_.add_subcommand(
      "resume", "go on with a run that was stopped or died, on any number of ranks");
  command->add_option("run", resume_, "run folder")->type_name("RUN")->required();
  for (const ConfigFlag& f : config_flags()) {
    const std::string section = std::string(f.setting).substr(0, std::string(f.setting).find('.'));
    if (section == "parallel" || section == "checkpoint" || section == "model")
      add_setting(command, f.setting, f.flags, f.type, f.group, f.help);
  }
  add_deadline(command);
  add_machine(command);
  add_common(command, true);
  command->footer("Example:\n  mpirun -n 4 longtake resume runs/first");
}

void Parser::add_plan() {
  CLI::App* command = app_.add_subcommand(
      "plan", "schedule, time and bytes of a run on any number of ranks, without running it");
  add_plan_flags(command, out_.plan);
  add_run_flags(command);
  for (const ConfigFlag& f : config_flags())
    if (std::string_view(f.setting) != "output.run")
      add_setting(command, f.setting, f.flags, f.type, f.group, f.help);
}

void Parser::add_decode() {
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

void Parser::add_info_and_verify() {
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

void Parser::add_bench() {
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
void Parser::refuse_unknown(const std::vector<std::string>& args) const {
  const auto chosen = app_.get_subcommands();
  std::vector<std::string> known;
  if (chosen.empty()) {
    for (const CLI::App* c : app_.get_subcommands({})) known.push_back(c->get_name());
    if (args.empty()) fail(ExitCode::usage, "no command given; see longtake --help");
    fail(ExitCode::usage, "unknown command `{}`; the nearest is `{}`, see longtake --help",
         args.front(), nearest_name(args.front(), known));
  }
  std::vector<std::string> extras = app_.remaining(true);
  if (extras.empty()) return;
  const std::string name = extras.front().substr(0, extras.front().find('='));
  if (!name.starts_with("-")) {
    fail(ExitCode::usage, "unexpected argument `{}`; see longtake {} --help", name,
         chosen[0]->get_name());
  }
  for (const CLI::Option* option : chosen[0]->get_options()) {
    for (const std::string& flag : option->get_lnames()) known.push_back("--" + flag);
    for (const std::string& flag : option->get_snames()) known.push_back("-" + flag);
  }
  fail(ExitCode::usage, "unknown flag {}; the nearest is {}", name, nearest_name(name, known));
}

void Parser::apply_settings() {
  for (const Setting& setting : settings()) {
    const auto given = settings_.find(setting.name());
    if (given == settings_.end() || !given->second) continue;
    const std::string wrong = setting.set(out_.config, *given->second, "");
    if (!wrong.empty()) problems_.add(flag_of_[setting.name()], wrong);
  }
  if (latents_only_) out_.config.output.latents_only = true;
  if (seconds_) out_.config.video.seconds = seconds_;
}

void Parser::apply_size() {
  if (!size_) return;
  const size_t cut = size_->find_first_of("*xX");
  std::string wrong;
  if (cut == std::string::npos) {
    wrong = fmt::format("expected a size such as 832*480 or 832x480, found `{}`", *size_);
  } else {
    wrong = find_setting("video.width")->set(out_.config, size_->substr(0, cut), "");
    if (wrong.empty()) {
      wrong = find_setting("video.height")->set(out_.config, size_->substr(cut + 1), "");
    }
  }
  if (!wrong.empty()) problems_.add("--size", wrong);
}

void Parser::apply_prompts() {
  if (prompt_ && prompt_file_)
    problems_.add("--prompt-file", "give either a prompt or a file of prompts");
  if (prompt_) out_.config.storyboard = {{StoryTime{}, *prompt_, "--prompt"}};
  if (prompt_file_) out_.config.storyboard = read_prompt_file(*prompt_file_, problems_);
}

void Parser::apply_frame_range() {
  if (!frame_range_) return;
  DecodeOptions& d = out_.decode;
  const size_t colon = frame_range_->find(':');
  const std::string_view text = *frame_range_;
  bool good = colon != std::string::npos;
  if (good && colon > 0) good = parse_whole(text.substr(0, colon), d.begin) && d.begin >= 0;
  if (good && colon + 1 < text.size()) {
    int64_t end = 0;
    good = parse_whole(text.substr(colon + 1), end) && end > d.begin;
    d.end = end;
  }
  if (!good)
    problems_.add("--frames",
                  fmt::format("expected frames such as 0:81, :81 or 40:, found `{}`", text));
}

void Parser::apply_layers() {
  if (!layers_) return;
  BenchOptions& b = out_.bench;
  const size_t colon = layers_->find(':');
  const std::string_view text = *layers_;
  const bool good = colon != std::string::npos &&
                    parse_whole(text.substr(0, colon), b.first_layer) &&
                    parse_whole(text.substr(colon + 1), b.last_layer) && 0 <= b.first_layer &&
                    b.first_layer < b.last_layer && b.last_layer <= 1000;
  if (!good)
    problems_.add("--layers", fmt::format("expected layers such as 0:2, found `{}`", text));
}

// Like generate, but without prompts, and the video may be endless.
void Parser::finish_plan() {
  auto& frames = settings_["video.frames"];
  if (frames == "endless") {
    out_.plan.endless = true;
    frames.reset();
  }
  if (config_file_ && !read_config_file(*config_file_, out_.config, problems_)) problems_.report();
  apply_size();
  apply_settings();
  finish_shape(out_.config, problems_, out_.notices);
  out_.plan.threads = threads_;
}

void Parser::finish_command(const CLI::App& command) {
  const std::string name = command.get_name();
  const bool progress = !no_progress_ && !quiet_;
  out_.log_level = quiet_ ? LogLevel::error : verbose_ ? LogLevel::debug : LogLevel::info;
  if (name == "resume") {
    out_.command = Command::generate;
    out_.config = config_of_run(resume_, problems_);
    apply_settings();
    finish(out_.config, problems_, out_.notices);
    out_.generate = {threads_, progress, mpi_, deadline_s_, job_end_, ""};
  } else if (name == "generate") {
    out_.command = Command::generate;
    if (config_file_ && !read_config_file(*config_file_, out_.config, problems_))
      problems_.report();
    apply_size();
    apply_settings();
    apply_prompts();
    finish(out_.config, problems_, out_.notices);
    out_.generate = {threads_, progress, mpi_, deadline_s_, job_end_, hardware_};
  } else if (name == "plan") {
    out_.command = Command::plan;
    finish_plan();
  } else if (name == "decode") {
    out_.command = Command::decode;
    apply_settings();
    apply_frame_range();
    if (!out_.decode.output.empty()) {
      const std::string wrong = check_video_name(out_.decode.output);
      if (!wrong.empty()) problems_.add("--output", wrong);
    }
    out_.decode.device = out_.config.device, out_.decode.precision = out_.config.precision;
    out_.decode.vae_tiles = out_.config.output.vae_tiles;
    out_.decode.threads = threads_, out_.decode.progress = progress;
  } else if (name == "bench") {
    out_.command = Command::bench;
    out_.config.precision = out_.bench.dtype;
    apply_settings();
    out_.bench.device = out_.config.device, out_.bench.dtype = out_.config.precision;
    out_.bench.threads = threads_;
    out_.bench.mpi = mpi_;
    apply_layers();
  } else {
    out_.command = name == "info" ? Command::info : Command::verify;
  }
  problems_.report();
}

CommandLine Parser::parse(std::vector<std::string> args) {
  const std::vector<std::string> given = args = with_dashes(std::move(args));
  std::reverse(args.begin(), args.end());  // CLI11 takes them from the back
  try {
    app_.parse(args);
  } catch (const CLI::CallForHelp&) {
    out_.text = app_.help();
    return out_;
  } catch (const CLI::CallForVersion&) {
    out_.text = version_text();
    return out_;
  } catch (const CLI::ParseError& e) {
    fail(ExitCode::usage, "{}", e.what());
  }
  refuse_unknown(given);
  finish_command(*app_.get_subcommands().front());
  return out_;
}

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& args,
                               const Environment& environment) {
  return Parser(environment).parse(args);
}

}  // namespace longtake
