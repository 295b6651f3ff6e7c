// One golden case: a folder with case.json and arrays, what it is compared with, and the line it
// prints.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels/base/tensor.h"
#include "tests/support/golden_file.h"
#include "tests/support/test_stream.h"

namespace longtake::testing {

class GoldenCase {
 public:
  explicit GoldenCase(const std::filesystem::path& folder);

  std::string name() const;  // relative to the golden folder
  const nlohmann::json& json() const { return json_; }
  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path model(const std::string& key = "model") const;
  OwnedTensor expected(const std::string& array) const;
  OwnedTensor input(const std::string& array) const;
  bool has_expected(const std::string& array) const;

  // Largest absolute difference, checked against `limit`.
  void compare(const std::string& what, ConstTensor got, ConstTensor expected, double limit);
  // |got - expected| / |expected| in the L2 norm, checked against `limit`.
  void compare_relative(const std::string& what, ConstTensor got, ConstTensor expected,
                        double limit);
  void print() const;  // "dit/t2v  12 arrays  worst output.t999 0.21 of its limit"

 private:
  void note(const std::string& what, double value, double limit);

  std::filesystem::path folder_;
  nlohmann::json json_;
  int compared_ = 0;
  double worst_share_ = -1;
  std::string worst_;
};

void run_block_queue_case(GoldenCase& golden);
void run_dit_case(GoldenCase& golden);
void run_vae_case(GoldenCase& golden);
void run_umt5_case(GoldenCase& golden);
void run_scheduler_case(GoldenCase& golden);
void run_pipeline_case(GoldenCase& golden);

}  // namespace longtake::testing
