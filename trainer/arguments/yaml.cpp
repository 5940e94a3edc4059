// The YAML half of file.h. yaml-cpp reads the text; what a word means follows YAML 1.2's core
// schema inside of nested values, and the argument's type at the top.
#include <tendril/core/error.h>
#include <tendril/trainer/arguments/file.h>

#ifdef TENDRIL_WITH_YAML

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

namespace tendril {
namespace {

// Aliases may make a value of any size, or one that contains itself, out of a few bytes.
constexpr int kDeepest = 32;
constexpr int kMostNodes = 10'000;

// Walks over the text before anything is built from it. yaml-cpp 0.7 takes a stray ',' or ']' after
// the end for a next document, and for another one behind that, without end: LoadAll() would fill
// the memory. So a second document is an Error at its start.
class OneDocument : public YAML::EventHandler {
 public:
  explicit OneDocument(const std::string& origin) : origin_(origin) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) error(mark, "there is text after the arguments");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { count(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { count(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                const std::string&) override {
    count(mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(mark);
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    open(mark);
  }
  void OnMapEnd() override { --depth_; }

 private:
  void count(const YAML::Mark& mark) {
    if (++nodes_ > kMostNodes) error(mark, "there are too many values");
  }
  void open(const YAML::Mark& mark) {
    count(mark);
    if (++depth_ > kDeepest) error(mark, "nested too deeply");
  }
  [[noreturn]] void error(const YAML::Mark& mark, const char* problem) const {
    fail("[arguments] ", origin_, ", line ", mark.line + 1, ": ", problem);
  }

  const std::string& origin_;
  int documents_ = 0, nodes_ = 0, depth_ = 0;
};

class YamlReader {
 public:
  explicit YamlReader(std::string origin) : origin_(std::move(origin)) {}

  std::vector<ArgumentSetting> settings(const YAML::Node& root) {
    if (root.IsNull()) return {};
    if (!root.IsMap())
      error(root, "the arguments must be one mapping, with a line \"name: value\" each");
    std::vector<ArgumentSetting> result;
    for (const auto& entry : root) {
      const std::string name = key(entry.first);
      for (const ArgumentSetting& other : result)
        if (other.name == name) error(entry.first, name + " is set twice");
      ArgumentSetting setting{name, place(entry.first), Json(), std::nullopt};
      if (is_plain(entry.second))
        setting.text = text(entry.second);
      else
        setting.value = value(entry.second, 0);
      result.push_back(std::move(setting));
    }
    return result;
  }

 private:
  std::string place(const YAML::Node& node) const {
    const int line = node.Mark().line;
    return "[arguments] " + origin_ + (line < 0 ? "" : ", line " + std::to_string(line + 1)) + ": ";
  }
  [[noreturn]] void error(const YAML::Node& node, const std::string& problem) const {
    fail(place(node), problem);
  }

  // A scalar without quotes; yaml-cpp tags it "?" and those with quotes "!".
  static bool is_plain(const YAML::Node& node) { return node.IsScalar() && node.Tag() == "?"; }

  std::string text(const YAML::Node& node) const {
    if (!is_utf8(node.Scalar())) error(node, "the text is not valid UTF-8");
    return node.Scalar();
  }

  std::string key(const YAML::Node& node) const {
    if (!node.IsScalar()) error(node, "a name must be plain text");
    return text(node);
  }

  Json value(const YAML::Node& node, int depth) {
    if (depth > kDeepest) error(node, "nested too deeply");
    if (++nodes_ > kMostNodes) error(node, "there are too many values");
    const std::string& tag = node.Tag();
    if (!tag.empty() && tag != "?" && tag != "!" && tag != "tag:yaml.org,2002:str")
      error(node, "tags are not supported; got " + tag);
    switch (node.Type()) {
      case YAML::NodeType::Scalar:
        return is_plain(node) ? plain(text(node)) : Json(text(node));
      case YAML::NodeType::Sequence: {
        Json array = Json::array();
        for (const auto& item : node) array.push_back(value(item, depth + 1));
        return array;
      }
      case YAML::NodeType::Map:
        return object(node, depth);
      default:
        return Json();
    }
  }

  Json object(const YAML::Node& node, int depth) {
    Json result = Json::object();
    for (const auto& entry : node) {
      const std::string name = key(entry.first);
      if (result.find(name)) error(entry.first, name + " is set twice");
      result.set(name, value(entry.second, depth + 1));
    }
    return result;
  }

  // true, false, a decimal number, or text.
  static Json plain(const std::string& word) {
    if (word == "true" || word == "True" || word == "TRUE") return true;
    if (word == "false" || word == "False" || word == "FALSE") return false;
    const bool signed_plus = word.size() > 1 && word[0] == '+' && word[1] != '-';
    const char *begin = word.data() + signed_plus, *end = word.data() + word.size();
    int64_t integer = 0;
    const auto whole = std::from_chars(begin, end, integer);
    if (whole.ec == std::errc() && whole.ptr == end) return integer;
    double number = 0.0;
    const auto result = std::from_chars(begin, end, number);
    if (result.ec == std::errc() && result.ptr == end && std::isfinite(number)) return number;
    return word;
  }

  std::string origin_;
  int nodes_ = 0;
};

}  // namespace

std::vector<ArgumentSetting> settings_from_yaml(const std::string& text,
                                                const std::string& origin) {
  // yaml-cpp would take other encodings for UTF-16 or replace what it does not understand.
  TENDRIL_CHECK(is_utf8(text) && text.find('\0') == std::string::npos, "[arguments] ", origin,
                ": the text is not valid UTF-8");
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    OneDocument check(origin);
    while (parser.HandleNextDocument(check)) {
    }
    return YamlReader(origin).settings(YAML::Load(text));
  } catch (const YAML::Exception& problem) {
    fail("[arguments] ", origin, ", line ", problem.mark.line + 1, ": ", problem.msg);
  }
}

}  // namespace tendril

#else

namespace tendril {

std::vector<ArgumentSetting> settings_from_yaml(const std::string&, const std::string& origin) {
  fail("[arguments] ", origin,
       " cannot be read: Tendril was built without yaml-cpp; use a JSON file, or build it with "
       "yaml-cpp");
}

}  // namespace tendril

#endif
