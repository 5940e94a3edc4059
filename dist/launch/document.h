// A YAML or JSON file as a tree of text: what a word means is for the keys to say.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace tendril::launch {

struct Node {
  enum class Kind { null, scalar, list, mapping };
  Kind kind = Kind::null;
  std::string text = {};                // of a scalar
  int line = 0;                         // from 1 on; 0 when it is not known
  std::vector<Node> items = {};         // of a list; of a mapping its values
  std::vector<std::string> names = {};  // of a mapping
};

/// Error when the file cannot be read, is not UTF-8, holds more than one document or names
/// something twice. A name that ends in .json is JSON, everything else YAML.
Node read_document(const std::string& path);

Node parse_yaml(const std::string& text, const std::string& origin);
Node parse_json(const std::string& text, const std::string& origin);

/// "[launch] file.yaml, line 3: "
std::string place(const std::string& origin, const Node& node);

}  // namespace tendril::launch
