// Bad configurations and prompts: exit code 2, a message that names the place, the expected and the
// found, and no run folder afterwards.
#include <doctest/doctest.h>

#include "kernels/cuda/stream.h"
#include "tests/cli/demo.h"
#include "tests/stream/sample_run.h"
#include "tests/support/safetensors_writer.h"

namespace longtake {

using namespace testing;
namespace fs = std::filesystem;

namespace {

const std::string kNotUtf8 = "a red \xff circle";

// A configuration file beside a link to the demo model.
class ConfigFolder {
 public:
  ConfigFolder() { fs::create_symlink(demo_configs() / "model", scratch_ / "model"); }

  fs::path operator/(const std::string& name) const { return scratch_ / name; }

  Outcome generate(const std::string& yaml, std::vector<std::string> flags = {}) const {
    write_bytes(scratch_ / "run.yaml", yaml);
    flags.insert(flags.begin(), {"generate", "run.yaml", "-o", "run"});
    ProcessOptions options;
    options.folder = scratch_.path();
    return run(flags, options);
  }

  void check_refused(const std::string& yaml, const std::vector<std::string>& parts,
                     const std::vector<std::string>& flags = {}, int code = 2) const {
    check_failed(generate(yaml, flags), code, parts);
    CHECK_MESSAGE(!fs::exists(scratch_ / "run"), "a run folder was left");
  }

 private:
  ScratchFolder scratch_;
};

constexpr const char* kGood =
    "model: model\nprompt: a red circle\nvideo: {width: 64, height: 64, frames: 5}\n"
    "sampler: {steps: 1, seed: 7}\n";

}  // namespace

TEST_CASE("the configuration that the tests damage is good") {
  const ConfigFolder folder;

  const Outcome outcome = folder.generate(kGood);

  CHECK_MESSAGE(outcome.code == 0, outcome.err);
  CHECK(fs::exists(folder / "run/video.mp4"));
}

TEST_CASE("an unknown key names the nearest, with file and line") {
  const ConfigFolder folder;

  folder.check_refused(
      "model: model\nprompt: x\nsampler:\n  stesp: 3\n",
      {"run.yaml:4: unknown key `stesp` in `sampler`; the nearest known key is `steps`"});
  folder.check_refused("modle: model\nprompt: x\n", {"run.yaml:1: unknown key `modle`", "`model`"});
}

TEST_CASE("all problems of file and flags come in one message") {
  const ConfigFolder folder;

  folder.check_refused(
      "model: model\nvideo: {width: 70, heigth: 64}\nsampler: {steps: -1}\n",
      {"5 problems:",
       "run.yaml:2: `video.width`: expected a whole number from 16 to 16384, a multiple of 16, "
       "found "
       "`70`",
       "unknown key `heigth` in `video`; the nearest known key is `height`",
       "run.yaml:3: `sampler.steps`: expected a whole number from 1 to 10000, found `-1`",
       "--guidance-scale", "no prompt"},
      {"--guidance-scale", "much"});
}

TEST_CASE("sizes that are not multiples of 16") {
  const ConfigFolder folder;

  for (const char* size : {"65x64", "64x72", "0x64", "64x8"})
    folder.check_refused(
        kGood, {"--size: expected a whole number from 16 to 16384, a multiple of 16, found `"},
        {"--size", size});
}

TEST_CASE("negative and absurd numbers") {
  const ConfigFolder folder;
  const auto refused = [&](const char* flag, const char* value, const std::string& expected) {
    folder.check_refused(kGood, {flag, expected, std::string("found `") + value + "`"},
                         {flag, value});
  };

  refused("--width", "-64", "from 16 to 16384");
  refused("--height", "99999999999999999999", "from 16 to 16384");
  refused("--num-frames", "-5", "from 1 to 10000000");
  refused("--num-frames", "1e3", "from 1 to 10000000");
  refused("--num-inference-steps", "0", "from 1 to 10000");
  refused("--guidance-scale", "-1", "from 0 up to 1000");
  refused("--guidance-scale", "nan", "from 0 up to 1000");
  refused("--flow-shift", "0", "above 0 up to 1000");
  refused("--flow-shift", "inf", "above 0 up to 1000");
  refused("--seed", "-2", "from -1 to 9223372036854775807");
  refused("--fps", "-16", "above 0 up to 1000");
  refused("--block", "0", "from 1 to 4096");
  refused("--overlap", "-1", "from 0 to 4096");
  refused("--stages", "0", "from 1 to 1000");
  folder.check_refused(kGood, {"--seconds", "expected 1 to 10000000"}, {"--seconds", "1e30"});
  folder.check_refused(kGood, {"overlap 9 is larger than block 8"}, {"--overlap", "9"});
}

TEST_CASE("sizes that each are allowed and together need more memory than any machine has") {
  const ConfigFolder folder;

  // 4,096 latent frames of 1,024 x 1,024 tokens: 4,294,967,296 tokens of 7,936 bytes.
  folder.check_refused(
      kGood,
      {"a block of 4096 latent frames of 2048 x 2048 has 4294967296 tokens", "34084.9 GB",
       "this machine has", "Choose a smaller size or a shorter block",
       "latents of all 9999997 frames are 671088.6 GB"},
      {"--size", "16384x16384", "--num-frames", "9999997", "--block", "4096"});
}

TEST_CASE("a prompt that is not UTF-8") {
  const ConfigFolder folder;
  write_bytes(folder / "story.txt", "[0s] a blue square\n[1s] " + kNotUtf8 + "\n");

  folder.check_refused(kGood, {"--prompt: the prompt is not UTF-8"}, {"-p", kNotUtf8});
  folder.check_refused(kGood, {"story.txt:2: the prompt is not UTF-8"},
                       {"--prompt-file", "story.txt"});
  folder.check_refused("model: model\nprompt: \"" + kNotUtf8 + "\"\n", {"run.yaml", "UTF-8"});
  folder.check_refused("model: model\nprompt: x\nnegative_prompt: " + kNotUtf8 + "\n",
                       {"run.yaml", "UTF-8"});
  folder.check_refused("model: model\nstoryboard:\n  - {at: 0s, prompt: x}\n  - {at: 1s, prompt: " +
                           kNotUtf8 + "}\n",
                       {"run.yaml", "UTF-8"});
  folder.check_refused(kGood, {"--negative-prompt", "not UTF-8"}, {"--negative-prompt", kNotUtf8});
}

TEST_CASE("what is no YAML or no configuration") {
  const ConfigFolder folder;

  folder.check_refused("model: [\n", {"run.yaml:", "not valid YAML"});
  folder.check_refused("- model\n", {"run.yaml", "expected `key: value` lines"});
  folder.check_refused("model: &a model\nprompt: x\n", {"run.yaml:1: anchors"});
  folder.check_refused("model: model\nmodel: other\nprompt: x\n",
                       {"run.yaml:2: `model` is given twice"});
}

TEST_CASE("what this version does not have is refused, not ignored") {
  const ConfigFolder folder;

  if (cuda::devices().empty())
    folder.check_refused(kGood, {"device cuda", "no GPU can be used"}, {"--device", "cuda"});
  folder.check_refused(kGood, {"--workers", "from 0 to 100000", "or auto"}, {"--workers", "-2"});
  folder.check_refused(kGood, {"parallel.workers: expected at most", "found 100000"},
                       {"--device", "cpu", "--workers", "100000"});
  folder.check_refused(kGood, {"--accept-workers", "off, on"}, {"--accept-workers", "maybe"});
  folder.check_refused(kGood, {"parallel.transport: ipc needs --device cuda"},
                       {"--device", "cpu", "--transport", "ipc"});
  folder.check_refused(kGood, {"offload: on is for GPUs"}, {"--device", "cpu", "--offload", "on"});
  folder.check_refused(kGood, {"4 stages x 1 branches need 4 ranks, this job has 1"},
                       {"--stages", "4", "--branches", "1"});
}

}  // namespace longtake
