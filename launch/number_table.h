// YAML files that are tables of numbers: hardware profiles, sizes of models. Unknown keys name the
// nearest known one, and all problems are found together, as in a run's configuration.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "launch/problems.h"

namespace longtake {

struct TableField {
  std::string section = {};  // empty: top level
  std::string key = {};
  std::string* text = nullptr;  // either this
  double* number = nullptr;     // or one of these
  int64_t* whole = nullptr;
  double low = 0, high = 0;  // both allowed
  bool optional = false;     // a section that is left out needs none of its keys

  std::string name() const { return section.empty() ? key : section + "." + key; }
};

// An optional list of maps at the top level: `next` makes room for one more entry.
struct TableList {
  std::string key;
  std::function<std::vector<TableField>()> next;
};

// `name` stands in messages.
void read_number_table(const std::string& text, const std::string& name,
                       const std::vector<TableField>& fields, Problems& problems,
                       const std::vector<TableList>& lists = {});

// One of the tables that come with the program (configs/<kind>/<name>.yaml), or a file. Fails with
// missing_input, naming the tables that there are.
struct TableSource {
  std::string name, text;
};
TableSource find_table(const std::string& kind, const std::string& name_or_file);

}  // namespace longtake
