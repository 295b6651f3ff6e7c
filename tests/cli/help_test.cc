// What the program says of itself, flags by their other names, and readers that leave.
#include <doctest/doctest.h>

#include "tests/cli/demo.h"
#include "tests/stream/sample_run.h"

namespace longtake {

using namespace testing;
namespace fs = std::filesystem;

TEST_CASE("every command explains its flags on standard output") {
  const std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>> texts = {
      {{},
       {"generate", "decode", "info", "verify", "bench", "Exit codes", "LONGTAKE_THREADS",
        "mpirun -n 4"}},
      {{"generate"},
       {"[CONFIG.yaml]", "--prompt-file", "--ckpt-dir", "--num-frames", "--size",
        "--num-inference-steps", "--guidance-scale", "--flow-shift", "--context-rule", "--stages",
        "--latents-only", "--output-path", "--threads", "--deadline", "--json-log", "Example:"}},
      {{"decode"}, {"RUN", "--output", "--frames", "--model"}},
      {{"info"}, {"PATH", "run folder or model folder"}},
      {{"verify"}, {"RUN", "--full"}},
      {{"bench"}, {"NAME", "attention", "gemm", "vae", "--dtype", "--repeat", "--json"}}};
  for (const auto& [command, parts] : texts)
    for (const char* flag : {"-h", "--help"}) {
      std::vector<std::string> args = command;
      args.push_back(flag);

      const Outcome help = run(args);

      CHECK(help.code == 0);
      CHECK(help.err.empty());
      for (const std::string& part : parts) check_mentions(help.out, part);
    }
}

TEST_CASE("the version names the libraries") {
  const Outcome version = run({"--version"});

  CHECK(version.code == 0);
  for (const char* part : {"longtake ", "backends: cpu (portable", "oneDNN", "HDF5", "MPI"})
    check_mentions(version.out, part);
}

TEST_CASE("errors are one line and an exit code") {
  const Outcome nowhere = run({"verify", "/nowhere"}), flag = run({"generate", "--stpes", "3"});

  CHECK(nowhere.code == 66);
  CHECK(nowhere.err == "longtake: /nowhere is not a run of longtake: it holds no RUN.json\n");
  CHECK(nowhere.out.empty());
  CHECK(flag.code == 2);
  CHECK(flag.err == "longtake: unknown flag --stpes; the nearest is --steps\n");
  CHECK(run({}).code == 2);
  CHECK(run({"generate", "/nowhere.yaml"}).code == 66);
  CHECK(run({"info", "/nowhere"}).code == 66);
}

TEST_CASE("environment variables are checked") {
  check_failed(run({"--version"}, {.environment = {"LONGTAKE_ISA=mmx"}}), 2,
               {"LONGTAKE_ISA", "mmx"});
  check_failed(run({"--version"}, {.environment = {"LONGTAKE_THREADS=-3"}}), 2,
               {"LONGTAKE_THREADS: expected a whole number from 1 to 4096, found `-3`"});
}

TEST_CASE("messages can be JSON") {
  const Outcome outcome = run({"verify", "--json-log", "/nowhere"});

  CHECK(outcome.code == 66);
  check_mentions(outcome.err, "\"level\":\"error\",\"message\":\"/nowhere is not a run");
}

TEST_CASE("flags by their other names make the same run") {
  const ScratchFolder scratch;
  const fs::path model = demo_configs() / "model";
  const std::vector<std::vector<std::string>> spellings = {
      {"--model",
       model,
       "--prompt",
       "a red circle",
       "--num-frames",
       "5",
       "--width",
       "64",
       "--height",
       "64",
       "--num-inference-steps",
       "2",
       "--guidance-scale",
       "3",
       "--flow-shift",
       "5",
       "--solver",
       "euler",
       "--block",
       "4",
       "--overlap",
       "2",
       "--output",
       scratch / "0"},
      {"--ckpt-dir",
       model,
       "-p",
       "a red circle",
       "--frame-num",
       "5",
       "--size",
       "64*64",
       "--steps",
       "2",
       "--cfg-scale",
       "3",
       "--shift",
       "5",
       "--sample-solver",
       "euler",
       "--num-per-block",
       "4",
       "--num-cat",
       "2",
       "-o",
       scratch / "1"},
      {"--model_path", model, "--prompt=a red circle", "--frames=6", "--size=64x64",
       "--sample_steps=2", "--sample_guide_scale=3", "--sample_shift=5", "--sample_solver=euler",
       "--num_per_block=4", "--num_cat=2", "--output_path", scratch / "2"}};
  std::vector<std::string> blocks;
  for (std::vector<std::string> args : spellings) {
    args.insert(args.begin(), {"generate", "--seed", "11", "--no-progress", "--latents-only"});
    const Outcome outcome = run(args);
    CHECK_MESSAGE(outcome.code == 0, outcome.err);
    blocks.push_back(contents(scratch / std::to_string(blocks.size()) / "out/b00000000.h5"));
  }

  CHECK(blocks[0].size() > 1000);
  CHECK(blocks[1] == blocks[0]);
  CHECK(blocks[2] == blocks[0]);
}

TEST_CASE("a full disk and a reader that left are seen on standard output") {
  check_failed(run({"--help"}, {.out = "/dev/full"}), 74, {"cannot write to standard output"});
  for (const char* command : {"--version", "generate"}) {
    std::vector<std::string> args{command};
    if (args[0] == "generate") args.push_back("--help");  // longer than a buffer
    const Outcome left = run(args, {.closed_out = true});
    CHECK(left.signal == 0);
    CHECK(left.code == 74);
    CHECK(left.err.empty());
  }
}

TEST_CASE("a run goes on when nobody reads what it says") {
  const DemoModel model;

  const Outcome outcome = model.generate({"-v"}, {.closed_out = true, .closed_err = true});

  CHECK(outcome.signal == 0);
  CHECK(outcome.code == 0);
  check_good_blocks(model.run(), 1);
}

}  // namespace longtake
