#include <tendril/dist/launch/help.h>

#include <tendril/dist/launch/keys.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

std::string entry(const Key& key) {
  std::string text = "  --" + key.name;
  constexpr size_t kColumn = 42;
  text += text.size() + 2 > kColumn ? "\n" + std::string(kColumn, ' ')
                                    : std::string(kColumn - text.size(), ' ');
  text += key.help;
  if (!key.choices.empty()) text += "; one of " + join(key.choices, ", ");
  if (!key.default_text.empty() && !key.is_switch) text += " (default: " + key.default_text + ")";
  return text + "\n";
}

}  // namespace

std::string help_text() {
  std::string text =
      "Usage: tendril-launch [flags] program [arguments]\n"
      "       tendril-launch config [--output FILE] [--force] [flags]   write a configuration\n"
      "       tendril-launch estimate --help                            memory and "
      "communication\n\n"
      "Starts a program as several processes. What counts, strongest first: flags, environment,\n"
      "the file of --config_file (else ~/.cache/tendril/default_config.yaml), defaults.\n";
  std::string title, others;
  for (const Key& key : keys()) {
    if (key.use != Key::Use::used) {
      others += (others.empty() ? "" : ", ") + key.name;
      continue;
    }
    if (key.title != title) text += "\n" + (title = key.title) + ":\n";
    text += entry(key);
  }
  return text + "\nKnown, but without a meaning here (docs/launch.md says why):\n  " + others +
         "\n";
}

}  // namespace tendril::launch
