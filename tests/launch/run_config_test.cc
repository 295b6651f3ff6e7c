#include "launch/run_config.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>

#include "launch/config_file.h"
#include "launch/nearest_name.h"
#include "tests/support/expect_error.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;

namespace {

struct Read {
  RunConfig config;
  Problems problems;
  std::vector<std::string> notices;
};

Read read(const std::string& text) {
  Read out;
  if (!read_config_text(text, "run.yaml", "/configs/here", out.config, out.problems)) return out;
  finish(out.config, out.problems, out.notices);
  return out;
}

// The one problem of a file that has a model and a prompt apart from `text`.
std::string problem_of(const std::string& text) {
  const Read found = read("model: m\nprompt: p\n" + text);
  REQUIRE(found.problems.texts().size() == 1);
  return found.problems.texts().front();
}

const std::string kFull = R"(
model: demo/model
storyboard:
  - {at: 0s, prompt: a red circle}
  - {at: 6s, prompt: "ein Quadrat, größer"}
  - {at: 200f, prompt: a third}
negative_prompt: blurry
video:    {width: 64, height: 48, frames: 401, fps: 16}
sampler:  {solver: euler, steps: 20, guidance: 4.5, guidance_2: 3, boundary_ratio: 0.875, shift: 3.0, seed: 7}
context:  {rule: dualparal, block: 6, overlap: 3, stagger: 2}
parallel: {branches: 2, stages: 4, workers: 1, transport: mpi}
device: cpu
precision: bf16
offload: off
checkpoint: {every: 2, maxh: 1.5}
input: {prompt_embeds: text.safetensors}
output:   {run: runs/first, video: v.mp4, vae_tiles: 128, latents_only: true}
)";

}  // namespace

TEST_CASE("every setting of the file arrives") {
  const Read found = read(kFull);
  const RunConfig& c = found.config;

  CHECK(found.problems.texts() == std::vector<std::string>{});
  CHECK(found.notices.empty());
  CHECK(c.model == "/configs/here/demo/model");
  CHECK(c.prompts ==
        std::vector<PromptAt>{{0, "a red circle"}, {96, "ein Quadrat, größer"}, {200, "a third"}});
  CHECK(c.negative_prompt == "blurry");
  CHECK(c.video.width == 64);
  CHECK(c.video.height == 48);
  CHECK(c.video.frames == 401);
  CHECK(c.video.fps == 16);
  CHECK(c.sampler.solver == SchedulerConfig::Solver::euler);
  CHECK(c.sampler.steps == 20);
  CHECK(c.sampler.guidance == 4.5);
  CHECK(c.sampler.guidance_2 == 3);
  CHECK(c.sampler.boundary_ratio == 0.875);
  CHECK(c.sampler.shift == 3);
  CHECK(c.sampler.seed == 7);
  CHECK(c.context.rule == ContextRule::dualparal);
  CHECK(c.context.block == 6);
  CHECK(c.context.overlap == 3);
  CHECK(c.context.stagger == 2);
  CHECK(c.parallel.branches == 2);
  CHECK(c.parallel.stages == 4);
  CHECK(c.parallel.workers == 1);
  CHECK(c.parallel.transport == TransportChoice::mpi);
  CHECK(c.device == DeviceChoice::cpu);
  CHECK(c.precision == Precision::bf16);
  CHECK(c.offload == OffloadChoice::off);
  CHECK(c.checkpoint.every == 2);
  CHECK(c.checkpoint.maxh == 1.5);
  CHECK(c.input.prompt_embeds == "/configs/here/text.safetensors");
  CHECK(c.output.run == "/configs/here/runs/first");
  CHECK(c.output.video == "v.mp4");
  CHECK(c.output.vae_tiles == 128);
  CHECK(c.output.latents_only);
}

TEST_CASE("the resolved form reads back as itself") {
  const Read first = read(kFull);
  const Read defaults = read("model: m\nprompt: 'say \"hi\": # no comment'\n");

  const std::string once = to_yaml(first.config);

  CHECK(to_yaml(read(once).config) == once);
  CHECK(to_yaml(read(to_yaml(defaults.config)).config) == to_yaml(defaults.config));
  CHECK(fingerprint(read(once).config) == fingerprint(first.config));
  CHECK(once.find("at: 96f") != std::string::npos);
  CHECK(to_yaml(defaults.config).find("shift: auto") != std::string::npos);
}

TEST_CASE("as many attention workers as are best is another choice than none") {
  const Read best = read("model: m\nprompt: p\nparallel: {workers: auto}\n");
  const Read none = read("model: m\nprompt: p\n");

  CHECK(!best.config.parallel.workers);
  CHECK(none.config.parallel.workers == 0);
  CHECK(to_yaml(best.config).find("workers: auto") != std::string::npos);
  CHECK(!read(to_yaml(best.config)).config.parallel.workers);
  CHECK(fingerprint(best.config) == fingerprint(none.config));
}

TEST_CASE("the fingerprint holds what shapes the latents and nothing else") {
  const std::string base = "model: m\nprompt: p\n";
  const std::string print = fingerprint(read(base).config);

  CHECK(fingerprint(read(base + "sampler: {steps: 21}").config) != print);
  CHECK(fingerprint(read("model: m\nprompt: q\n").config) != print);
  CHECK(fingerprint(read(base + "precision: f32").config) != print);
  CHECK(fingerprint(read(base + "parallel: {stages: 3}").config) == print);
  CHECK(fingerprint(read(base + "output: {run: elsewhere}").config) == print);
  CHECK(fingerprint(read(base + "offload: on").config) == print);
}

TEST_CASE("an unknown key names the nearest known one, with file and line") {
  CHECK(problem_of("sampler:\n  stepz: 3\n") ==
        "run.yaml:4: unknown key `stepz` in `sampler`; the nearest known key is `steps`");
  CHECK(problem_of("vdieo: {width: 64}\n") ==
        "run.yaml:3: unknown key `vdieo`; the nearest known key is `video`");
  CHECK(problem_of("steps: 3\n") == "run.yaml:3: unknown key `steps`; it belongs to `sampler`");
  CHECK(problem_of("video: {device: cpu}\n") ==
        "run.yaml:3: unknown key `device` in `video`; it belongs to the top level");
}

TEST_CASE("all problems are reported together") {
  const Read found = read("video: {width: 63}\nsampler:\n  steps: 0\n  guidance: nan\nfoo: 1\n");

  const Error error = error_of([&] { found.problems.report(); });

  CHECK(error.code() == ExitCode::usage);
  CHECK(mentions(error, "6 problems:"));
  CHECK(mentions(error,
                 "run.yaml:1: `video.width`: expected a whole number from 16 to 16384, a multiple "
                 "of 16, found `63`"));
  CHECK(mentions(
      error, "run.yaml:3: `sampler.steps`: expected a whole number from 1 to 10000, found `0`"));
  CHECK(mentions(
      error, "run.yaml:4: `sampler.guidance`: expected a number from 0 up to 1000, found `nan`"));
  CHECK(mentions(error, "run.yaml:5: unknown key `foo`"));
  CHECK(mentions(error, "no model"));
  CHECK(mentions(error, "no prompt"));
}

TEST_CASE("values out of range are refused") {
  const std::vector<std::string> wrong = {
      "video: {height: -16}",
      "video: {height: 1e9}",
      "video: {frames: 0}",
      "video: {fps: 0}",
      "video: {fps: .inf}",
      "video: {frames: 99999999999999999999}",
      "sampler: {seed: -2}",
      "sampler: {shift: 0}",
      "sampler: {solver: dpm}",
      "sampler: {steps: 2.5}",
      "sampler: {guidance: -1}",
      "sampler: {boundary_ratio: 1.1}",
      "context: {block: 0}",
      "context: {rule: none}",

      "parallel: {branches: 3}",
      "parallel: {stages: 0}",
      "checkpoint: {every: 0}",
      "checkpoint: {maxh: -1}",
      "device: gpu",
      "precision: f16",
      "video: {width: [64]}",
      "output: {latents_only: 1}",
      "output: {vae_tiles: 100}",
      "output: {vae_tiles: 0}",
      "output: {vae_tiles: none}",
      "sampler: {steps: '20 '}",
  };
  for (const std::string& text : wrong) {
    CAPTURE(text);
    CHECK(problem_of(text).find("expected") != std::string::npos);
  }
}

TEST_CASE("the overlap must fit the block") {
  CHECK(problem_of("context: {overlap: 9}\n") == "context: overlap 9 is larger than block 8");
  CHECK(read("model: m\nprompt: p\ncontext: {overlap: 8}\n").problems.empty());
}

TEST_CASE("documents that are not a plain mapping are refused") {
  CHECK(problem_of("video: &v {width: 64}\n") ==
        "run.yaml:3: anchors (&name) are not allowed here");
  CHECK(problem_of("device: !!str cpu\n") == "run.yaml:3: tags (!name) are not allowed here");
  CHECK(problem_of("device: cpu\ndevice: cuda\n") == "run.yaml:4: `device` is given twice");
  CHECK(problem_of("video: 3\n") == "run.yaml:3: expected settings below `video`");
  CHECK(problem_of("video: {width: 64\n").find("not valid YAML") != std::string::npos);
  CHECK(problem_of("? [a]\n: b\n") == "run.yaml:3: a key must be a plain name");
  CHECK(problem_of("storyboard: [{at: 0s, prompt: q}]\n") ==
        "run.yaml:3: give either `prompt` or `storyboard`");
  CHECK(read("- a\n- b\n").problems.texts().front() == "run.yaml:1: expected `key: value` lines");
  CHECK(read("prompt: \"\xff\"\n").problems.texts().front() == "run.yaml: the file is not UTF-8");
  CHECK(read("a: " + std::string(40, '[') + std::string(40, ']')).problems.texts().front() ==
        "run.yaml:1: more than 16 levels are not allowed here");
  CHECK_FALSE(read(std::string(100'000, '[')).problems.empty());
}

TEST_CASE("frame counts are rounded down to 4k + 1 and seconds become frames") {
  const Read rounded = read("model: m\nprompt: p\nvideo: {frames: 84}\n");
  Read timed = read("model: m\nprompt: p\nvideo: {fps: 24}\n");
  timed.config.video.seconds = 5;
  finish(timed.config, timed.problems, timed.notices);
  timed.config.video.seconds = 0.01;
  finish(timed.config, timed.problems, timed.notices);

  CHECK(rounded.config.video.frames == 81);
  CHECK(rounded.notices == std::vector<std::string>{"84 frames are rounded down to 81 (4k + 1)"});
  CHECK(timed.config.video.frames == 117);
  REQUIRE(timed.problems.texts().size() == 1);
  CHECK(timed.problems.texts()[0].find("0.01 s at 24 frames per second") != std::string::npos);
}

TEST_CASE("storyboards must begin at 0 and ascend") {
  const auto story = [](const std::string& list) {
    const Read found = read("model: m\nstoryboard: " + list);
    REQUIRE(found.problems.texts().size() == 1);
    return found.problems.texts().front();
  };

  CHECK(story("[{at: 1s, prompt: a}]") == "run.yaml:2: the first prompt must be at 0s");
  CHECK(story("\n- {at: 0s, prompt: a}\n- {at: 3s, prompt: b}\n- {at: 48f, prompt: c}\n") ==
        "run.yaml:5: frame 48 does not come after frame 48 of the prompt before");
  CHECK(story("[{at: 0s, prompt: a}, {at: later, prompt: b}]").find("expected a time such as 6s") !=
        std::string::npos);
  CHECK(story("[{prompt: a}]") == "run.yaml:2: expected `{at: 6s, prompt: text}`");
  CHECK(story("[{at: 0, prompt: a, text: b}]").find("unknown key `text`") != std::string::npos);
}

TEST_CASE("prompts after the end are noticed") {
  const Read found = read(
      "model: m\nvideo: {frames: 81}\nstoryboard: [{at: 0, prompt: a}, {at: 6s, prompt: b}]\n");

  CHECK(found.problems.empty());
  CHECK(found.notices ==
        std::vector<std::string>{"1 of 2 prompts begin after the last of 81 frames: not used"});
}

TEST_CASE("times") {
  CHECK(parse_story_time("6s")->frame(16) == 96);
  CHECK(parse_story_time(" 2.5s ")->frame(16) == 40);
  CHECK(parse_story_time("96f")->frame(24) == 96);
  CHECK(parse_story_time("0")->frame(16) == 0);
  for (const char* wrong : {"", "6", "s", "-1s", "1.5f", "6 s", "1e99s", "nans", "6sec"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_story_time(wrong));
  }
}

TEST_CASE("a prompt file has one timed prompt per line") {
  Problems problems;

  const auto timed =
      parse_prompt_file("# story\n[0s] one\n\n[6s]  two [not a time]\r\n", "p.txt", problems);
  const auto single = parse_prompt_file("just this\n", "p.txt", problems);
  CHECK(problems.empty());
  parse_prompt_file("one\ntwo\n", "p.txt", problems);
  parse_prompt_file("[soon] one\n", "p.txt", problems);
  parse_prompt_file("# nothing\n", "p.txt", problems);

  REQUIRE(timed.size() == 2);
  CHECK(timed[1].at->frame(16) == 96);
  CHECK(timed[1].prompt == "two [not a time]");
  CHECK(timed[1].where == "p.txt:4");
  REQUIRE(single.size() == 1);
  CHECK(single[0].prompt == "just this");
  CHECK(problems.texts() ==
        std::vector<std::string>{
            "p.txt: with several lines each needs a time, for instance `[6s] text`",
            "p.txt:1: expected a time such as [6s] or [96f], found `[soon]`",
            "p.txt: holds no prompt"});
}

TEST_CASE("UTF-8 is checked strictly") {
  CHECK(is_utf8("größer 漢字 🎬"));
  CHECK(is_utf8(""));
  for (const std::string wrong :
       {"\xff", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80"}) {
    CHECK_FALSE(is_utf8(wrong));
  }
  CHECK_FALSE(is_utf8(std::string("a\0b", 3)));
}

TEST_CASE("the nearest name") {
  CHECK(edit_distance("steps", "steps") == 0);
  CHECK(edit_distance("stpes", "steps") == 1);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance(std::string(1'000'000, 'x'), "steps") == 1'000'000);
  CHECK(nearest_name("shfit", {"steps", "shift", "seed"}) == "shift");
  CHECK(nearest_name("--rule", {"--help", "--context-rule", "--rate"}) == "--context-rule");
  CHECK(nearest_name("--rul", {"--help", "--context-rule", "--rule"}) == "--rule");
  CHECK(nearest_name("--text", {"--context", "--next"}) == "--next");
  CHECK(nearest_name("num_frames", {"frames", "num-frames", "numframes"}) == "num-frames");
  CHECK(nearest_name("--", {"--steps", "--a"}) == "--a");
}

TEST_CASE("a random seed is drawn once, and the run folder is named after prompt and seed") {
  Read found = read("model: m\nprompt: A red circle, moving right!\n");
  Read fixed = read("model: m\nprompt: 漢字\nsampler: {seed: 5}\noutput: {run: here}\n");

  choose_defaults(found.config);
  const int64_t seed = found.config.sampler.seed;
  choose_defaults(found.config);
  choose_defaults(fixed.config);

  CHECK(seed >= 0);
  CHECK(found.config.sampler.seed == seed);
  CHECK(found.config.output.run == fmt::format("runs/a-red-circle-moving-right-{}", seed));
  CHECK(fixed.config.sampler.seed == 5);
  CHECK(fixed.config.output.run == "/configs/here/here");
}

TEST_CASE("files: paths are relative to the file, a missing or huge one is named") {
  const ScratchFolder scratch;
  std::ofstream(scratch / "run.yaml") << "model: ../m\n";
  std::ofstream(scratch / "huge.yaml") << std::string(2'000'000, '#');
  RunConfig config;
  Problems problems;

  read_config_file(scratch / "run.yaml", config, problems);
  const Error missing = error_of([&] { read_config_file(scratch / "no.yaml", config, problems); });
  const Error huge = error_of([&] { read_config_file(scratch / "huge.yaml", config, problems); });

  CHECK(config.model == scratch.path().parent_path() / "m");
  CHECK(missing.code() == ExitCode::missing_input);
  CHECK(mentions(missing, "no.yaml"));
  CHECK(huge.code() == ExitCode::bad_data);
}

}  // namespace longtake
