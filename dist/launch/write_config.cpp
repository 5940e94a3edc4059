#include <tendril/dist/launch/write_config.h>

#include <algorithm>
#include <set>

#include <tendril/core/json.h>
#include <tendril/dist/launch/keys.h>
#include <tendril/dist/launch/paradigm.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

// Quoted where YAML 1.1 or 1.2 would take it for something else than text.
std::string yaml_text(const Key& key, const std::string& text) {
  static const std::set<std::string> kSpecial = {"no", "yes", "on", "off", "null", "y", "n"};
  const bool is_plain = std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '.' || c == '/' || c == '-';
  });
  const bool is_boolean = key.is_switch;
  const bool needs_quotes = !is_plain || text.empty() || kSpecial.contains(lowercase(text)) ||
                            text.starts_with('-') || (!is_boolean && text == "true") ||
                            (!is_boolean && text == "false");
  return needs_quotes ? json_quote(text) : text;
}

std::string comment(const Key& key) {
  std::string text = key.help;
  if (!key.choices.empty() && key.is_numbered) text += " (" + join(key.choices, ", ") + ")";
  return text + (key.variable.empty() ? "" : "; environment: " + key.variable);
}

std::string shown_default(const Key& key) {
  return key.default_text.empty() ? "null" : yaml_text(key, key.default_text);
}

// In the file, flags become distributed_type.
std::string type_of(const LaunchConfig& config) {
  const Choice choice = choose_paradigm(config);
  if (choice.paradigm == Paradigm::fsdp) return "FSDP";
  if (choice.paradigm == Paradigm::deepspeed) return "DEEPSPEED";
  if (choice.wants_gpus) return "MULTI_GPU";
  if (choice.wants_cpu) return "MULTI_CPU";
  return choice.is_one_process ? "NO" : "";
}

}  // namespace

std::string config_text(const LaunchConfig& config) {
  LaunchConfig written = config;
  if (written.distributed_type = type_of(config); !written.distributed_type.empty())
    written.sources["distributed_type"] = Source::file;
  written.sources["compute_environment"] = Source::file;
  std::string text =
      "# A configuration of tendril-launch; also given as --config_file. The command line and the\n"
      "# environment come before it. Commented lines show the defaults.\n";
  std::string section = "-";
  for (const Key& key : keys()) {
    if (key.section == "-" || key.use != Key::Use::used) continue;
    const std::string indent = key.section.empty() ? "" : "  ";
    if (key.section != section) {
      section = key.section;
      text += "\n# " + key.title + "\n" + (section.empty() ? "" : section + ":\n");
    }
    text += indent + "# " + comment(key) + "\n";
    if (written.is_set(key.name))
      text += indent + key.name + ": " + yaml_text(key, key.text(written)) + "\n";
    else
      text += indent + "# " + key.name + ": " + shown_default(key) + "\n";
  }
  return text;
}

std::string key_table() {
  std::string text = "| Key | Default | Environment | Meaning |\n|---|---|---|---|\n";
  std::string title;
  for (const Key& key : keys()) {
    const bool is_alias = key.use == Key::Use::alias;
    if (key.use != Key::Use::used && !is_alias) continue;
    if (key.title != title) {
      title = key.title;
      const bool is_mapping = !key.section.empty() && key.section != "-";
      text += "| **" + title + "**" + (is_mapping ? " (`" + key.section + "`)" : "") + " | | | |\n";
    }
    text += "| `" + key.name + "` | " + key.default_text + " | " + key.variable + " | " +
            (is_alias ? "Old name of " : "") + key.help + " |\n";
  }
  return text;
}

std::string foreign_table() {
  std::string text = "| Key | What happens | Why |\n|---|---|---|\n";
  for (size_t i = 0; i < keys().size(); ++i) {
    const Key& key = keys()[i];
    const bool is_refused = key.use == Key::Use::refused;
    if (!is_refused && key.use != Key::Use::ignored) continue;
    std::string names = "`" + key.name + "`";
    while (i + 1 < keys().size() && keys()[i + 1].help == key.help)  // one row for one reason
      names += ", `" + keys()[++i].name + "`";
    text += "| " + names + " | " + (is_refused ? "Error" : "ignored") + " | " + key.help + " |\n";
  }
  return text;
}

}  // namespace tendril::launch
