#include <tendril/dist/launch/config_file.h>

#include <algorithm>

#include <tendril/core/error.h>
#include <tendril/core/nearest_name.h>
#include <tendril/dist/launch/keys.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

using Kind = Node::Kind;

// Lists are words that commas part. What lies deeper belongs to keys that mean nothing here.
std::string text_of(const Node& node) {
  if (node.kind == Kind::scalar) return node.text;
  std::vector<std::string> parts;
  for (const Node& item : node.items) parts.push_back(text_of(item));
  return join(parts, ",");
}

class Reader {
 public:
  Reader(LaunchConfig& config, const std::string& origin) : config_(config), origin_(origin) {}

  void read(const Node& document) {
    if (document.kind == Kind::null) return;
    TENDRIL_CHECK(document.kind == Kind::mapping, place(origin_, document),
                  "a configuration is one mapping, with a line \"name: value\" each");
    refuse_sagemaker(document);
    for (size_t i = 0; i < document.names.size(); ++i) {
      const std::string& name = document.names[i];
      if (is_section(name))
        read_section(name, document.items[i]);
      else
        read_key("", name, document.items[i]);
    }
    TENDRIL_CHECK(unknown_.empty(), "[launch] ", origin_, ": there is no key named ",
                  join(unknown_, "; nor "), "; tendril-launch --help lists them all");
  }

 private:
  // First of all: the other keys of such a file are not known, and would hide the reason.
  void refuse_sagemaker(const Node& document) const {
    for (size_t i = 0; i < document.names.size(); ++i)
      TENDRIL_CHECK(
          document.names[i] != "compute_environment" || document.items[i].kind == Kind::null ||
              lowercase(document.items[i].text) == "local_machine",
          place(origin_, document.items[i]), "compute_environment ", document.items[i].text,
          " cannot be served: programs are started on machines, LOCAL_MACHINE, only");
  }

  void read_section(const std::string& section, const Node& node) {
    if (node.kind == Kind::null) return;
    TENDRIL_CHECK(node.kind == Kind::mapping, place(origin_, node), section,
                  " must be a mapping of its own keys");
    for (size_t i = 0; i < node.names.size(); ++i) read_key(section, node.names[i], node.items[i]);
  }

  void read_key(const std::string& section, const std::string& name, const Node& node) {
    const Key* key = find_key(section, name);
    if (!key) {
      note_unknown(section, name, node);
    } else if (node.kind != Kind::null) {
      TENDRIL_CHECK(node.kind != Kind::mapping || key->use != Key::Use::used, place(origin_, node),
                    name, " must be one value, not a mapping");
      set_key(config_, *key, text_of(node), Source::file, place(origin_, node));
    }
  }

  void note_unknown(const std::string& section, const std::string& name, const Node& node) {
    std::string text = (section.empty() ? "" : section + ".") + name;
    if (node.line) text += " (line " + std::to_string(node.line) + ")";
    const Key* elsewhere = find_key(name);
    if (elsewhere && elsewhere->section == "-") {
      text += ", which only the command line has";
    } else if (elsewhere) {
      text += elsewhere->section.empty() ? ", which belongs to the top level"
                                         : ", which belongs into " + elsewhere->section;
    } else {
      std::vector<std::string> names;
      for (const Key& key : keys()) {
        if (section.empty() && is_section(key.section)) names.push_back(key.section);
        if (key.section != section) continue;
        names.push_back(key.name);
        if (const size_t prefix = section.rfind("config"); prefix != std::string::npos)
          names.push_back(key.name.substr(std::min(prefix, key.name.size())));
      }
      const std::string nearest = nearest_name(names, name);
      if (!nearest.empty()) text += " (did you mean " + nearest + "?)";
    }
    unknown_.push_back(text);
  }

  LaunchConfig& config_;
  const std::string& origin_;
  std::vector<std::string> unknown_;
};

}  // namespace

void apply_document(LaunchConfig& config, const Node& document, const std::string& origin) {
  Reader(config, origin).read(document);
}

}  // namespace tendril::launch
