#include "launch/options.h"

#include <charconv>

#include "kernels/base/error.h"
#include "launch/config_file.h"
#include "launch/nearest_name.h"
#include "launch/option_parser.h"
#include "launch/settings.h"
#include "launch/version.h"

namespace longtake {

namespace {

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

}  // namespace

void OptionParser::refuse_unknown(const std::vector<std::string>& args) const {
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

void OptionParser::apply_settings() {
  for (const Setting& setting : settings()) {
    const auto given = settings_.find(setting.name());
    if (given == settings_.end() || !given->second) continue;
    const std::string wrong = setting.set(out_.config, *given->second, "");
    if (!wrong.empty()) problems_.add(flag_of_[setting.name()], wrong);
  }
  if (latents_only_) out_.config.output.latents_only = true;
  if (seconds_) out_.config.video.seconds = seconds_;
}

void OptionParser::apply_size() {
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

void OptionParser::apply_prompts() {
  if (prompt_ && prompt_file_)
    problems_.add("--prompt-file", "give either a prompt or a file of prompts");
  if (prompt_) out_.config.storyboard = {{StoryTime{}, *prompt_, "--prompt"}};
  if (prompt_file_) out_.config.storyboard = read_prompt_file(*prompt_file_, problems_);
}

void OptionParser::apply_frame_range() {
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

void OptionParser::apply_layers() {
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
void OptionParser::finish_plan() {
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

void OptionParser::finish_command(const CLI::App& command) {
  const std::string name = command.get_name();
  const bool progress = !no_progress_ && !quiet_;
  out_.log_level = quiet_ ? LogLevel::error : verbose_ ? LogLevel::debug : LogLevel::info;
  if (name == "resume") {
    out_.command = Command::generate;
    const bool longer = seconds_ || settings_["video.frames"];
    out_.config = config_of_run(resume_, longer, problems_);
    apply_settings();
    finish(out_.config, problems_, out_.notices);
    out_.generate = {threads_, progress, mpi_, deadline_s_, job_end_, "", least_worker_work_};
  } else if (name == "generate") {
    out_.command = Command::generate;
    if (config_file_ && !read_config_file(*config_file_, out_.config, problems_))
      problems_.report();
    apply_size();
    apply_settings();
    apply_prompts();
    finish(out_.config, problems_, out_.notices);
    out_.generate = {threads_,  progress,          mpi_, deadline_s_, job_end_,
                     hardware_, least_worker_work_};
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
  } else if (name == "worker") {
    out_.command = Command::worker;
    apply_settings();
    out_.worker.device = out_.config.device;
    out_.worker.threads = threads_;
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

CommandLine OptionParser::parse(std::vector<std::string> args) {
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

CommandLine parse_command_line(const std::vector<std::string>& args,
                               const Environment& environment) {
  return OptionParser(environment).parse(args);
}

}  // namespace longtake
