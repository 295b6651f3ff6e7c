#include "launch/plain_yaml.h"

#include <yaml-cpp/eventhandler.h>

#include <sstream>

#include "kernels/base/error.h"
#include "launch/storyboard.h"

namespace longtake {

namespace {

constexpr int kDeepest = 16;

// Looks at the document before a tree is made of it: anchors and aliases can make small files huge,
// tags can change what a text means, and none of them has a use here.
class PlainDocument : public YAML::EventHandler {
 public:
  std::string problem;
  YAML::Mark mark;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& m, YAML::anchor_t anchor) override { look(m, "", anchor); }
  void OnAlias(const YAML::Mark& m, YAML::anchor_t) override { refuse(m, "aliases (*name)"); }
  void OnScalar(const YAML::Mark& m, const std::string& tag, YAML::anchor_t anchor,
                const std::string&) override {
    look(m, tag, anchor);
  }
  void OnSequenceStart(const YAML::Mark& m, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    look(m, tag, anchor);
    if (++depth_ > kDeepest) refuse(m, "more than 16 levels");
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& m, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    OnSequenceStart(m, tag, anchor, style);
  }
  void OnMapEnd() override { --depth_; }

 private:
  void look(const YAML::Mark& m, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != 0) refuse(m, "anchors (&name)");
    // "?" and "!" are what the parser gives to plain and quoted scalars.
    if (!tag.empty() && tag != "?" && tag != "!") refuse(m, "tags (!name)");
  }
  void refuse(const YAML::Mark& m, const char* what) {
    if (!problem.empty()) return;
    problem = fmt::format("{} are not allowed here", what);
    mark = m;
  }
  int depth_ = 0;
};

}  // namespace

std::string yaml_place(const std::string& name, const YAML::Mark& mark) {
  return mark.is_null() ? name : fmt::format("{}:{}", name, mark.line + 1);
}

std::optional<YAML::Node> load_plain_yaml(const std::string& text, const std::string& name,
                                          Problems& problems) try {
  if (!is_utf8(text)) {
    problems.add(name, "the file is not UTF-8");
    return std::nullopt;
  }
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  PlainDocument document;
  parser.HandleNextDocument(document);
  if (!document.problem.empty()) {
    problems.add(yaml_place(name, document.mark), document.problem);
    return std::nullopt;
  }
  YAML::Node root = YAML::Load(text);
  if (root.IsNull() || root.IsMap()) return root;
  problems.add(yaml_place(name, root.Mark()), "expected `key: value` lines");
  return std::nullopt;
} catch (const YAML::Exception& e) {
  problems.add(yaml_place(name, e.mark), "not valid YAML: " + e.msg);
  return std::nullopt;
}

}  // namespace longtake
