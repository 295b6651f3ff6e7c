// Hardware profiles and sizes of models as files.
#include "launch/hardware_file.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>

#include "launch/calibrate.h"
#include "launch/model_sizes.h"
#include "launch/run_shape.h"
#include "launch/shipped_tables.h"
#include "parallel/cost/sub_layer_cost.h"
#include "tests/support/expect_error.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;

namespace {

constexpr const char* kGood = R"(name: "a \"small\" one"
memory_gb: 16
memory_gb_per_s: 400
link_gb_per_s: 5
link_latency_us: 0
operator_us: 2.5
f32: {linear_gflops: 12e3, attention_gflops: 8000, conv_gflops: 6000}
)";

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << text;
}

ModelSizes preset(const std::string& name) {
  RunConfig config;
  config.model_sizes = name;
  return find_model_sizes(config);
}

int64_t parameters_of(const ModelSizes& sizes) {
  const ModelShape m = shape_of(sizes, 60, 104, DType::bf16, false);
  int64_t out = end_parameters(m);
  for (int64_t unit = 0; unit < 3 * m.layers; ++unit) out += parameters(sub_layer(unit), m);
  return out;
}

}  // namespace

TEST_CASE("a profile in the units of people becomes one in SI units") {
  const HardwareFile file = parse_hardware(kGood, "small.yaml");
  const HardwareProfile p = file.profile(DType::f32);

  CHECK(file.name == "a \"small\" one");
  CHECK(p.linear_flops == 12e12);
  CHECK(p.attention_flops == 8e12);
  CHECK(p.conv_flops == 6e12);
  CHECK(p.memory_bytes == 16e9);
  CHECK(p.memory_bandwidth == 400e9);
  CHECK(p.link_bandwidth == 5e9);
  CHECK(p.link_latency_s == 0);
  CHECK(p.operator_s == doctest::Approx(2.5e-6));
}

// Padding up to the model's 512 rows of text is computed as one: a plan must not count it.
TEST_CASE("a plan counts the text that is computed") {
  const ModelShape m = shape_of(preset("wan2.1-t2v-1.3b"), 60, 104, DType::bf16, false);

  CHECK(m.text_rows == usual_text_rows);
}

TEST_CASE("what is written is read again") {
  const HardwareFile file = parse_hardware(kGood, "small.yaml");

  CHECK(to_yaml(parse_hardware(to_yaml(file), "again")) == to_yaml(file));
  CHECK(parse_hardware(to_yaml(file), "again").name == file.name);
}

TEST_CASE("kinds of attention workers are an optional list") {
  const std::string workers =
      "overlap: 0\nworkers:\n"
      "  - {name: small, count: 3, speed: 0.25, link_gb_per_s: 2, link_latency_us: 40}\n"
      "  - {name: large, count: 1, speed: 2, link_gb_per_s: 8, link_latency_us: 5}\n";
  const HardwareFile file = parse_hardware(kGood + workers, "small.yaml");
  const HardwareProfile p = file.profile(DType::f32);

  REQUIRE(p.workers.size() == 2);
  CHECK(p.workers[0].name == "small");
  CHECK(p.workers[0].count == 3);
  CHECK(p.workers[0].speed == 0.25);
  CHECK(p.workers[0].link_bandwidth == 2e9);
  CHECK(p.workers[0].link_latency_s == doctest::Approx(40e-6));
  CHECK(!p.workers[1].overlap);
  CHECK(!p.overlap);
  CHECK(parse_hardware(kGood, "small.yaml").profile(DType::f32).overlap);
  CHECK(parse_hardware(kGood, "small.yaml").workers.empty());
  CHECK(to_yaml(parse_hardware(to_yaml(file), "again")) == to_yaml(file));
  CHECK(parse_hardware(to_yaml(file), "again").workers.size() == 2);
}

TEST_CASE("problems of a list of workers name the file and the line") {
  const auto problems = [](const std::string& workers) {
    return error_of([&] { parse_hardware(kGood + workers, "bad.yaml"); });
  };

  CHECK(mentions(problems("workers: 3\n"), "`workers`: expected a list of maps"));
  CHECK(mentions(problems("workers: [a]\n"), "`workers`: expected a map"));
  CHECK(mentions(problems("workers: [{name: a, count: 0, speed: 1}]\n"),
                 "`count`: expected a whole number from 1 to 100000, found `0`"));
  CHECK(mentions(problems("workers: [{name: a, count: 1, speed: 1}]\n"),
                 "`link_gb_per_s` is missing"));
  CHECK(mentions(problems("workers: [{nam: a}]\n"),
                 "unknown key `nam`; the nearest known key is "
                 "`name`"));
  CHECK(mentions(problems("worker: 3\n"),
                 "unknown key `worker`; the nearest known key is "
                 "`workers`"));
}

TEST_CASE("a profile without rates of the precision is refused when it is used") {
  const HardwareFile file = parse_hardware(kGood, "small.yaml");
  const Error error = error_of([&] { file.profile(DType::bf16); });

  CHECK(error.code() == ExitCode::usage);
  CHECK(mentions(error, "no rates for precision bf16"));
}

TEST_CASE("all problems of a profile are reported together, with file and line") {
  const Error error = error_of([] {
    parse_hardware("name: x\nmemory_gb: -1\nmemory_gb_per_sec: 3\nf32: {linear_gflop: 1}\n",
                   "bad.yaml");
  });

  CHECK(error.code() == ExitCode::usage);
  CHECK(mentions(error, "bad.yaml:2: `memory_gb`: expected a number from 0.001"));
  CHECK(mentions(error,
                 "bad.yaml:3: unknown key `memory_gb_per_sec`; the nearest known key is "
                 "`memory_gb_per_s`"));
  CHECK(mentions(error,
                 "bad.yaml:4: unknown key `f32.linear_gflop`; the nearest known key is "
                 "`linear_gflops`"));
  CHECK(mentions(error, "`link_gb_per_s` is missing"));
  CHECK(mentions(error, "`f32.conv_gflops` is missing"));
}

TEST_CASE("a profile needs rates, and its name or file must exist") {
  const std::string all(kGood);
  const Error none = error_of([&] { parse_hardware(all.substr(0, all.find("f32")), "none.yaml"); });
  const Error unknown = error_of([] { read_hardware("h10"); });

  CHECK(mentions(none, "expected a section f32 or bf16"));
  CHECK(unknown.code() == ExitCode::missing_input);
  CHECK(mentions(unknown, "a100, h100, h200, rtx4090"));
}

TEST_CASE("every table that comes with the program is good") {
  int hardware = 0, models = 0;
  for (const ShippedTable& table : shipped_tables()) {
    CAPTURE(table.name);
    if (std::string(table.kind) == "hardware") {
      const HardwareFile file = read_hardware(table.name);
      for (const DType dtype : {DType::f32, DType::bf16}) {
        CHECK(file.profile(dtype).linear_flops > 1e12);
        CHECK(file.profile(dtype).attention_flops <= 1.2 * file.profile(dtype).linear_flops);
      }
      ++hardware;
    } else {
      CHECK(preset(table.name).vae);
      ++models;
    }
  }
  CHECK(hardware == 4);
  CHECK(models == 4);
}

// wan.md 1.
TEST_CASE("the tables of models have the released parameters") {
  CHECK(parameters_of(preset("wan2.1-t2v-1.3b")) == 1418996800);
  CHECK(parameters_of(preset("wan2.1-t2v-14b")) == 14288491584);
  CHECK(parameters_of(preset("wan2.2-t2v-a14b")) == 14288491584);
  CHECK(parameters_of(preset("wan2.2-ti2v-5b")) == 4999787712);
  CHECK(preset("wan2.2-t2v-a14b").experts == 2);
  CHECK(preset("wan2.2-ti2v-5b").vae->spatial_factor == 16);
}

TEST_CASE("a model folder beats the table, and one without weights is enough") {
  const ScratchFolder scratch;
  RunConfig config;
  config.model = scratch.path();
  config.model_sizes = "wan2.1-t2v-14b";
  std::filesystem::create_directories(scratch.path() / "transformer");
  write(scratch / "model_index.json", R"({"_class_name": "WanPipeline",
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLWan"]})");
  write(scratch / "transformer" / "config.json", R"({"_class_name": "WanTransformer3DModel",
    "patch_size": [1, 2, 2], "num_attention_heads": 3, "attention_head_dim": 64, "in_channels": 16,
    "out_channels": 16, "text_dim": 32, "ffn_dim": 80, "num_layers": 7, "cross_attn_norm": true,
    "qk_norm": "rms_norm_across_heads"})");

  CHECK(find_model_sizes(config).transformer.layers == 7);
  std::filesystem::create_directories(scratch.path() / "vae");  // without weights
  CHECK(find_model_sizes(config).transformer.dim() == 192);

  config.model = scratch.path() / "nothing";
  CHECK(find_model_sizes(config).transformer.layers == 40);
  config.model_sizes.clear();
  CHECK(error_of([&] { find_model_sizes(config); }).code() == ExitCode::missing_input);
}

TEST_CASE("two pipelines only where both fit") {
  ModelSizes sizes = preset("wan2.1-t2v-1.3b");
  RunConfig config;
  config.video.frames = 321;
  const RunShape shape = run_shape(config, sizes);
  const ModelShape model = model_shape(config, sizes, shape);
  HardwareProfile hardware = read_hardware("h100").profile(DType::bf16);
  PlanSpec plan = shape.plan;

  CHECK(choose_mesh(config, 4, plan, model, hardware) == Mesh{2, 2});
  plan.mesh = {2, 2};
  hardware.memory_bytes = largest_peak_bytes(plan, model, hardware) - 1;
  CHECK(choose_mesh(config, 4, plan, model, hardware) == Mesh{4, 1});
  config.parallel.stages = 4;
  CHECK(choose_mesh(config, 4, plan, model, hardware) == Mesh{4, 1});
}

// A video long enough to decode most of its blocks beside denoising: the last stage gets fewer
// layers for it.
TEST_CASE("decoding moves the cut between stages") {
  const ModelSizes sizes = preset("wan2.1-t2v-1.3b");
  RunConfig config;
  config.video.frames = 1601, config.sampler.steps = 8;
  const RunShape shape = run_shape(config, sizes);
  ModelShape model = model_shape(config, sizes, shape);
  HardwareProfile hardware = read_hardware("h100").profile(DType::bf16);
  PlanSpec plan = shape.plan;
  plan.mesh = {2, 1};
  const auto cut = [&] { return split_layers(plan, model, hardware)[0].conditional.end; };

  hardware.conv_flops = hardware.linear_flops / 6;
  const int64_t decoding = cut();
  model.decode_flops_per_frame = 0;
  const int64_t without = cut();

  CHECK(std::abs(without - 45) <= 1);
  CHECK(decoding >= without + 2);
  CHECK(decoding < 88);  // not all of them
}

TEST_CASE("measured rates are rates") {
  ThreadPool pool(1);
  RateProbe probe;
  probe.dim = 96, probe.heads = 2, probe.ffn = 160, probe.tokens = 64, probe.keys = 128;
  probe.dtypes = {DType::f32, DType::bf16};
  probe.seconds = 0.05;
  probe.memory_bytes = 8e9;
  HardwareFile file = measure_rates(probe, StreamRef(pool));
  file.name.assign(1, 'x');

  for (const DType dtype : {DType::f32, DType::bf16}) {
    const HardwareProfile p = parse_hardware(to_yaml(file), "measured").profile(dtype);
    for (const double rate : {p.linear_flops, p.attention_flops, p.conv_flops}) {
      CHECK(rate > 1e6);
      CHECK(rate < 1e13);  // one core
    }
    CHECK(p.memory_bytes == 8e9);
  }
}

}  // namespace longtake
