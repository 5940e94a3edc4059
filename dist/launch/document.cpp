#include <tendril/dist/launch/document.h>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/json.h>

namespace tendril::launch {
namespace {

// Far more than any configuration needs: a file of tensors given by mistake is not parsed.
constexpr uintmax_t kLargestFile = 1 << 20;
constexpr int kMostNodes = 10'000, kDeepest = 16;

void add_name(Node& mapping, const std::string& name, const std::string& origin, int line) {
  Node here{.line = line};
  TENDRIL_CHECK(std::find(mapping.names.begin(), mapping.names.end(), name) == mapping.names.end(),
                place(origin, here), name, " is set twice");
  mapping.names.push_back(name);
}

// Puts the parser's events together; nothing is built before it has passed the checks. yaml-cpp
// takes stray text at the end for a next document, without end, so the second one is an Error.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(const std::string& origin) : origin_(origin) {}
  Node take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) error(mark, "there is text after the configuration");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(mark, Node()); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    error(mark, "anchors and aliases are not understood; write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& text) override {
    if (tag != "?" && tag != "!" && tag != "tag:yaml.org,2002:str")
      error(mark, "tags are not understood; got " + tag);
    add(mark, Node{.kind = Node::Kind::scalar, .text = text});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(mark, Node::Kind::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    open(mark, Node::Kind::mapping);
  }
  void OnMapEnd() override { close(); }

 private:
  [[noreturn]] void error(const YAML::Mark& mark, const std::string& problem) const {
    fail("[launch] ", origin_, ", line ", mark.line + 1, ": ", problem);
  }

  void add(const YAML::Mark& mark, Node node) {
    if (++nodes_ > kMostNodes) error(mark, "there are too many values");
    node.line = mark.line + 1;
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Node& parent = open_.back();
    const bool is_name =
        parent.kind == Node::Kind::mapping && parent.names.size() == parent.items.size();
    if (!is_name) {
      parent.items.push_back(std::move(node));
    } else {
      if (node.kind != Node::Kind::scalar) error(mark, "a name must be plain text");
      add_name(parent, node.text, origin_, node.line);
    }
  }

  void open(const YAML::Mark& mark, Node::Kind kind) {
    if (open_.size() >= kDeepest) error(mark, "nested too deeply");
    if (!open_.empty() && open_.back().kind == Node::Kind::mapping &&
        open_.back().names.size() == open_.back().items.size())
      error(mark, "a name must be plain text");
    open_.push_back(Node{.kind = kind, .line = mark.line + 1});
    marks_.push_back(mark);
  }

  void close() {
    Node node = std::move(open_.back());
    const YAML::Mark mark = marks_.back();
    open_.pop_back();
    marks_.pop_back();
    add(mark, std::move(node));
  }

  const std::string& origin_;
  Node root_;
  std::vector<Node> open_;
  std::vector<YAML::Mark> marks_;
  int documents_ = 0, nodes_ = 0;
};

Node from_json(const Json& json) {
  Node node;
  switch (json.kind()) {
    case Json::Kind::null:
      break;
    case Json::Kind::boolean:
    case Json::Kind::number:
      node.kind = Node::Kind::scalar;
      node.text = json.dump();
      break;
    case Json::Kind::string:
      node.kind = Node::Kind::scalar;
      node.text = json.as_string();
      break;
    case Json::Kind::array:
      node.kind = Node::Kind::list;
      for (const Json& item : json.items()) node.items.push_back(from_json(item));
      break;
    case Json::Kind::object:
      node.kind = Node::Kind::mapping;
      for (const auto& [name, value] : json.members()) {
        node.names.push_back(name);
        node.items.push_back(from_json(value));
      }
  }
  return node;
}

}  // namespace

std::string place(const std::string& origin, const Node& node) {
  return "[launch] " + origin + (node.line ? ", line " + std::to_string(node.line) : "") + ": ";
}

Node parse_yaml(const std::string& text, const std::string& origin) {
  TENDRIL_CHECK(is_utf8(text) && text.find('\0') == std::string::npos, "[launch] ", origin,
                ": the text is not valid UTF-8");
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    TreeBuilder tree(origin);
    while (parser.HandleNextDocument(tree)) {
    }
    return tree.take();
  } catch (const YAML::Exception& problem) {
    fail("[launch] ", origin, ", line ", problem.mark.line + 1, ": ", problem.msg);
  }
}

Node parse_json(const std::string& text, const std::string& origin) {
  return from_json(Json::parse(text, origin, {.depth = kDeepest, .array_items = kMostNodes}));
}

Node read_document(const std::string& path) {
  std::error_code problem;
  const uintmax_t size = std::filesystem::file_size(path, problem);
  TENDRIL_CHECK(!problem, "[launch] cannot read ", path, ": ", problem.message());
  TENDRIL_CHECK(size <= kLargestFile, "[launch] ", path, " is no configuration: it has ", size,
                " bytes");
  const std::string text = read_text_file(path);
  return path.ends_with(".json") ? parse_json(text, path) : parse_yaml(text, path);
}

}  // namespace tendril::launch
