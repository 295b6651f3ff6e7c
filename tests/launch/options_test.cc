#include "launch/options.h"

#include <doctest/doctest.h>

#include <fstream>

#include "tests/support/expect_error.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;

namespace {

CommandLine parse(const std::vector<std::string>& args) {
  return parse_command_line(args, {});
}

// generate with a model and a prompt, and `args`.
CommandLine generate(std::vector<std::string> args) {
  args.insert(args.begin(), {"generate", "--model", "m", "-p", "text"});
  return parse(args);
}

Error usage_error(const std::vector<std::string>& args) {
  const Error error = error_of([&] { parse(args); });
  CHECK(error.code() == ExitCode::usage);
  return error;
}

}  // namespace

TEST_CASE("every alias reaches its setting, with - and with _") {
  for (const char* flag :
       {"--num-frames", "--num_frames", "--frame-num", "--frame_num", "--frames"}) {
    CHECK(generate({flag, "33"}).config.video.frames == 33);
  }
  for (const char* flag : {"--num-inference-steps", "--num_inference_steps", "--steps",
                           "--sample-steps", "--sample_steps"}) {
    CHECK(generate({flag, "9"}).config.sampler.steps == 9);
    CHECK(generate({std::string(flag) + "=9"}).config.sampler.steps == 9);
  }
  for (const char* flag :
       {"--guidance-scale", "--guidance_scale", "--cfg-scale", "--sample-guide-scale"}) {
    CHECK(generate({flag, "2.5"}).config.sampler.guidance == 2.5);
  }
  for (const char* flag : {"--flow-shift", "--shift", "--sample_shift"}) {
    CHECK(generate({flag, "8"}).config.sampler.shift == 8);
  }
  for (const char* flag : {"--solver", "--sample-solver"}) {
    CHECK(generate({flag, "euler"}).config.sampler.solver == SchedulerConfig::Solver::euler);
  }
  for (const char* flag : {"--negative-prompt", "--neg-prompt", "--negative_prompt"}) {
    CHECK(generate({flag, "bad_one"}).config.negative_prompt == "bad_one");
  }
  for (const char* flag : {"--model", "--model-path", "--model_path", "--ckpt-dir", "--ckpt_dir"}) {
    CHECK(parse({"generate", "-p", "t", flag, "my_model"}).config.model == "my_model");
  }
  for (const char* flag : {"--output", "-o", "--output-path", "--output_path"}) {
    CHECK(generate({flag, "runs/a_b"}).config.output.run == "runs/a_b");
  }
  for (const char* flag : {"--block", "--num-per-block", "--num_per_block"}) {
    CHECK(generate({flag, "6"}).config.context.block == 6);
  }
  for (const char* flag : {"--overlap", "--num-cat", "--num_cat"}) {
    CHECK(generate({flag, "2"}).config.context.overlap == 2);
  }
}

TEST_CASE("tiles of the VAE: auto, off or pixels, for generate and decode") {
  CHECK_FALSE(generate({}).config.output.vae_tiles);
  CHECK(generate({"--vae-tiles", "off"}).config.output.vae_tiles == 0);
  for (const char* flag : {"--vae-tiles", "--vae_tiling", "--vae-tile"}) {
    CHECK(generate({flag, "256"}).config.output.vae_tiles == 256);
    CHECK(parse({"decode", "run", flag, "64"}).decode.vae_tiles == 64);
  }
  CHECK_FALSE(parse({"decode", "run", "--vae-tiles", "auto"}).decode.vae_tiles);
  CHECK(mentions(usage_error({"decode", "run", "--vae-tiles", "96"}), "a multiple of 64"));
}

TEST_CASE("the other flags of generate") {
  const CommandLine line = generate({"--seed",
                                     "-1",
                                     "--guidance-scale-2",
                                     "3",
                                     "--boundary-ratio",
                                     "0.9",
                                     "--context-rule",
                                     "causal",
                                     "--stagger",
                                     "2",
                                     "--stages",
                                     "3",
                                     "--branches",
                                     "2",
                                     "--workers",
                                     "1",
                                     "--transport",
                                     "mpi",
                                     "--prompt-embeds",
                                     "e.st",
                                     "--noise",
                                     "n.st",
                                     "--latents-only",
                                     "--maxh",
                                     "1.5",
                                     "--threads",
                                     "2",
                                     "--device",
                                     "cpu",
                                     "--precision",
                                     "bf16",
                                     "--offload",
                                     "on",
                                     "-q",
                                     "--json-log",
                                     "--fps",
                                     "24"});
  const RunConfig& c = line.config;

  CHECK(line.command == Command::generate);
  CHECK(c.sampler.seed == -1);
  CHECK(c.sampler.guidance_2 == 3);
  CHECK(c.sampler.boundary_ratio == 0.9);
  CHECK(c.context.rule == ContextRule::causal);
  CHECK(c.context.stagger == 2);
  CHECK(c.parallel.stages == 3);
  CHECK(c.parallel.branches == 2);
  CHECK(c.parallel.workers == 1);
  CHECK(c.parallel.transport == TransportChoice::mpi);
  CHECK(c.input.prompt_embeds == "e.st");
  CHECK(c.input.noise == "n.st");
  CHECK(c.output.latents_only);
  CHECK(c.checkpoint.maxh == 1.5);
  CHECK(c.device == DeviceChoice::cpu);
  CHECK(c.precision == Precision::bf16);
  CHECK(c.offload == OffloadChoice::on);
  CHECK(c.video.fps == 24);
  CHECK(line.generate.threads == 2);
  CHECK_FALSE(line.generate.progress);
  CHECK(line.log_level == LogLevel::error);
  CHECK(line.json_log);
}

TEST_CASE("sizes and lengths") {
  const RunConfig star = generate({"--size", "640*352"}).config;
  const RunConfig cross = generate({"--size=640x352"}).config;
  const CommandLine seconds = generate({"--seconds", "10"});

  CHECK(star.video.width == 640);
  CHECK(star.video.height == 352);
  CHECK(cross.video.height == 352);
  CHECK(seconds.config.video.frames == 157);
  CHECK(seconds.notices.size() == 1);
  CHECK(mentions(usage_error({"generate", "-p", "t", "--model", "m", "--size", "640"}), "832x480"));
  CHECK(
      mentions(usage_error({"generate", "-p", "t", "--model", "m", "--size", "640x100"}),
               "--size: expected a whole number from 16 to 16384, a multiple of 16, found `100`"));
}

TEST_CASE("a flag beats the file, and a prompt replaces the storyboard") {
  const ScratchFolder scratch;
  std::ofstream(scratch / "run.yaml")
      << "model: m\nstoryboard: [{at: 0s, prompt: a}, {at: 1s, prompt: b}]\n"
         "sampler: {steps: 20, seed: 3}\n";

  const RunConfig c =
      parse({"generate", scratch / "run.yaml", "--steps", "5", "-p", "mine", "-o", "here"}).config;

  CHECK(c.model == scratch / "m");
  CHECK(c.sampler.steps == 5);
  CHECK(c.sampler.seed == 3);
  CHECK(c.prompts == std::vector<PromptAt>{{0, "mine"}});
  CHECK(c.output.run == "here");
}

TEST_CASE("a prompt file makes a storyboard") {
  const ScratchFolder scratch;
  std::ofstream(scratch / "story.txt") << "[0s] one\n[3s] two\n";

  const RunConfig c =
      parse({"generate", "--model", "m", "--prompt-file", scratch / "story.txt"}).config;
  const Error both =
      usage_error({"generate", "--model", "m", "-p", "x", "--prompt-file", scratch / "story.txt"});
  const Error missing = error_of([&] { parse({"generate", "--prompt-file", scratch / "no.txt"}); });

  CHECK(c.prompts == std::vector<PromptAt>{{0, "one"}, {48, "two"}});
  CHECK(mentions(both, "either a prompt or a file of prompts"));
  CHECK(missing.code() == ExitCode::missing_input);
}

TEST_CASE("problems of file and flags come together") {
  const ScratchFolder scratch;
  std::ofstream(scratch / "run.yaml") << "model: m\nsampler: {stepz: 20}\n";

  const Error error = usage_error({"generate", scratch / "run.yaml", "--cfg-scale", "high"});

  CHECK(mentions(error, "3 problems:"));
  CHECK(mentions(error,
                 "run.yaml:2: unknown key `stepz` in `sampler`; the nearest known key is `steps`"));
  CHECK(mentions(error, "--guidance-scale: expected a number from 0 up to 1000, found `high`"));
  CHECK(mentions(error, "no prompt"));
}

TEST_CASE("unknown flags, commands and arguments name what was probably meant") {
  CHECK(mentions(usage_error({"generate", "--stpes", "3"}),
                 "unknown flag --stpes; the nearest is --steps"));
  CHECK(
      mentions(usage_error({"generate", "--guidence_scale=3"}), "the nearest is --guidance-scale"));
  CHECK(mentions(usage_error({"verify", "run", "--ful"}), "the nearest is --full"));
  CHECK(mentions(usage_error({"genrate", "run.yaml"}),
                 "unknown command `genrate`; the nearest is `generate`"));
  CHECK(mentions(usage_error({"verify", "run", "other"}), "unexpected argument `other`"));
  CHECK(mentions(usage_error({}), "no command given"));
  CHECK(mentions(usage_error({"verify"}), "required"));
  CHECK(mentions(usage_error({"bench", "speed"}), "attention"));
  CHECK(mentions(usage_error({"generate", "--threads", "many"}), "--threads"));
}

TEST_CASE("decode takes a range of frames") {
  const CommandLine both =
      parse({"decode", "run", "--frames", "4:81", "-o", "v.mp4", "--device", "cpu"});
  const CommandLine front = parse({"decode", "run", "--frames", ":81"});
  const CommandLine back = parse({"decode", "run", "--frames=40:"});

  CHECK(both.command == Command::decode);
  CHECK(both.decode.run == "run");
  CHECK(both.decode.output == "v.mp4");
  CHECK(both.decode.device == DeviceChoice::cpu);
  CHECK(both.decode.begin == 4);
  CHECK(both.decode.end == 81);
  CHECK(front.decode.begin == 0);
  CHECK(front.decode.end == 81);
  CHECK(back.decode.begin == 40);
  CHECK_FALSE(back.decode.end);
  for (const char* wrong : {"81", "a:b", "9:9", "9:3", "-1:3", "1:2:3", "1:2x"}) {
    CHECK(mentions(usage_error({"decode", "run", "--frames", wrong}),
                   "expected frames such as 0:81"));
  }
}

TEST_CASE("info, verify and bench") {
  const CommandLine verify = parse({"verify", "--full", "runs/a"});
  const CommandLine info = parse({"info", "runs/a", "-v"});
  const CommandLine bench =
      parse({"bench", "gemm", "--dim", "64", "--dtype", "bf16", "--json", "b.json", "--kv_tokens",
             "128", "--repeat", "3", "--threads", "1"});

  CHECK(verify.command == Command::verify);
  CHECK(verify.verify.full);
  CHECK(verify.verify.run == "runs/a");
  CHECK(info.command == Command::info);
  CHECK(info.info.path == "runs/a");
  CHECK(info.log_level == LogLevel::debug);
  CHECK(bench.command == Command::bench);
  CHECK(bench.bench.name == "gemm");
  CHECK(bench.bench.dim == 64);
  CHECK(bench.bench.dtype == Precision::bf16);
  CHECK(bench.bench.json == "b.json");
  CHECK(bench.bench.kv_tokens == 128);
  CHECK(bench.bench.repeat == 3);
  CHECK(bench.bench.threads == 1);
  CHECK(parse({"bench", "gemm"}).bench.dtype == Precision::f32);
}

TEST_CASE("help and version are only printed") {
  for (const char* command : {"generate", "decode", "info", "verify", "bench"}) {
    const CommandLine line = parse({command, "--help"});
    CHECK(line.command == Command::print);
    CHECK(line.text.find(std::string("longtake ") + command) != std::string::npos);
  }
  CHECK(parse({"--help"}).text.find("LONGTAKE_THREADS") != std::string::npos);
  CHECK(parse({"--version"}).text.find("HDF5") != std::string::npos);
}

TEST_CASE("LONGTAKE_THREADS is the default of --threads") {
  Environment environment;
  environment.threads = 3;

  CHECK(parse_command_line({"bench", "text"}, environment).bench.threads == 3);
  CHECK(parse_command_line({"bench", "text", "--threads", "1"}, environment).bench.threads == 1);
}

}  // namespace longtake
