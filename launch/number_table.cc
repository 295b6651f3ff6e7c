#include "launch/number_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "kernels/base/error.h"
#include "launch/nearest_name.h"
#include "launch/plain_yaml.h"
#include "launch/shipped_tables.h"
#include "runtime/stream/durable_file.h"

namespace longtake {

namespace {

constexpr uint64_t kLargestFile = uint64_t{1} << 20;

class TableReader {
 public:
  TableReader(const std::string& name, const std::vector<TableField>& fields,
              const std::vector<TableList>& lists, Problems& problems)
      : name_(name), fields_(fields), lists_(lists), problems_(problems) {}

  void read(const YAML::Node& root) {
    read_map(root, "");
    for (const TableField& field : fields_)
      if (!field.optional && sections_.count(field.section) && !seen_.count(field.name()))
        problems_.add(name_, fmt::format("`{}` is missing", field.name()));
  }

 private:
  void problem(const YAML::Node& at, const std::string& text) {
    problems_.add(yaml_place(name_, at.Mark()), text);
  }
  void read_map(const YAML::Node& map, const std::string& section);
  void read_field(const TableField& field, const YAML::Node& value);
  void read_list(const TableList& list, const YAML::Node& value);
  std::vector<std::string> known(const std::string& section) const;

  const std::string& name_;
  const std::vector<TableField>& fields_;
  const std::vector<TableList>& lists_;
  Problems& problems_;
  std::set<std::string> seen_, sections_;
};

// Keys and, at the top level, sections.
std::vector<std::string> TableReader::known(const std::string& section) const {
  std::vector<std::string> out;
  for (const TableField& field : fields_) {
    if (field.section == section) out.push_back(field.key);
    if (section.empty() && !field.section.empty()) out.push_back(field.section);
  }
  for (const TableList& list : lists_)
    if (section.empty()) out.push_back(list.key);
  return out;
}

void TableReader::read_map(const YAML::Node& map, const std::string& section) {
  sections_.insert(section);
  for (const auto& entry : map) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const std::string full = section.empty() ? key : section + "." + key;
    const auto field = std::find_if(fields_.begin(), fields_.end(),
                                    [&](const TableField& f) { return f.name() == full; });
    const bool is_section =
        section.empty() && std::any_of(fields_.begin(), fields_.end(), [&](const TableField& f) {
          return !key.empty() && f.section == key;
        });
    const auto list = std::find_if(lists_.begin(), lists_.end(),
                                   [&](const TableList& l) { return l.key == full; });
    if (!seen_.insert(full).second)
      problem(entry.first, fmt::format("`{}` is given twice", full));
    else if (list != lists_.end())
      read_list(*list, entry.second);
    else if (field != fields_.end())
      read_field(*field, entry.second);
    else if (is_section && entry.second.IsMap())
      read_map(entry.second, key);
    else if (is_section)
      problem(entry.first, fmt::format("expected settings below `{}`", key));
    else
      problem(entry.first, fmt::format("unknown key `{}`; the nearest known key is `{}`", full,
                                       nearest_name(key, known(section))));
  }
}

void TableReader::read_list(const TableList& list, const YAML::Node& value) {
  if (!value.IsSequence())
    return problem(value, fmt::format("`{}`: expected a list of maps", list.key));
  for (const YAML::Node& entry : value) {
    const std::vector<TableField> fields = list.next();
    if (entry.IsMap())
      TableReader(name_ + ", " + list.key, fields, {}, problems_).read(entry);
    else
      problem(entry, fmt::format("`{}`: expected a map", list.key));
  }
}

void TableReader::read_field(const TableField& field, const YAML::Node& value) {
  const std::string text = value.IsScalar() ? value.Scalar() : "";
  if (field.text) {
    *field.text = text;
    if (!value.IsScalar()) problem(value, fmt::format("`{}`: expected a text", field.name()));
    return;
  }
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  bool good = error == std::errc() && end == text.data() + text.size() && std::isfinite(number) &&
              number <= field.high;
  good = good && number >= field.low && (!field.whole || number == std::floor(number));
  if (!good) {
    problem(value,
            fmt::format("`{}`: expected a {} from {} to {}, found `{}`", field.name(),
                        field.whole ? "whole number" : "number", field.low, field.high, text));
  } else if (field.whole) {
    *field.whole = static_cast<int64_t>(number);
  } else {
    *field.number = number;
  }
}

}  // namespace

void read_number_table(const std::string& text, const std::string& name,
                       const std::vector<TableField>& fields, Problems& problems,
                       const std::vector<TableList>& lists) {
  const auto root = load_plain_yaml(text, name, problems);
  if (root) TableReader(name, fields, lists, problems).read(*root);
}

TableSource find_table(const std::string& kind, const std::string& name_or_file) {
  std::vector<std::string> names;
  for (const ShippedTable& table : shipped_tables()) {
    if (table.kind != kind) continue;
    if (table.name == name_or_file) return {name_or_file + ".yaml", table.text};
    names.push_back(table.name);
  }
  std::error_code ignored;
  if (std::filesystem::exists(name_or_file, ignored))
    return {name_or_file, read_file(name_or_file, kLargestFile)};
  std::string known;
  for (const std::string& name : names) known += (known.empty() ? "" : ", ") + name;
  fail(ExitCode::missing_input,
       "{}: expected one of {}, or a file; `{}` is neither, the nearest is {}", kind, known,
       name_or_file, nearest_name(name_or_file, names));
}

}  // namespace longtake
